"""Rollouts with real recognizers under streamed speech: what is worse is found and taken back, what is good climbs.

Time is compressed by more traffic, not by other clocks: sessions of a few seconds, sent as fast as they are taken.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import shipped_models
from speechpipe.cascade.catalog.local import derived, install
from tests.conftest import Server, StartServer
from tests.control.rollout.test_serving import SHADOW, TOML, canary, plan
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.long
SAMPLES = Path(__file__).parents[3] / "audio_samples"
RATE = 16_000
TOGETHER = 4


def clips() -> list[bytes]:
    """Return short and long utterances, linear16: every other one has less than a second of speech."""
    found = []
    for name in ("digits", "sentence_slt", "sentence_awb"):
        sound, rate = soundfile.read(SAMPLES / f"{name}.flac", dtype="float32")
        assert rate == RATE
        begin = int(np.argmax(np.abs(sound) > 0.05))
        for seconds in (0.8, 2.5):
            quiet = np.zeros(RATE // 2, np.float32)
            part = np.concatenate([quiet, sound[begin : begin + int(seconds * RATE)], quiet, quiet])
            found.append((part * 32767).astype("<i2").tobytes())
    return found


def taken(url: str) -> ClientConnection:
    """Connect; come again when told, as a client does whose session is refused because the machine is behind."""
    limit = time.monotonic() + PATIENCE_S
    while True:
        try:
            return connect(url, open_timeout=PATIENCE_S)
        except InvalidStatus as refused:
            if refused.response.status_code != 503 or time.monotonic() > limit:
                raise
            time.sleep(float(refused.response.headers["retry-after"]))


class Talkers:
    """Streaming clients and an operator."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.http = httpx.Client(base_url=server.url, timeout=PATIENCE_S)
        self._clips = clips()
        self._count = 0

    def say(self, number: int) -> tuple[str, str]:
        """Stream one utterance; return (bundle, text)."""
        url = self.server.url.replace("http", "ws") + "/v1/listen?encoding=linear16&sample_rate=16000"
        with taken(url) as socket:
            assert socket.response is not None
            audio = self._clips[number % len(self._clips)]
            for start in range(0, len(audio), 6400):
                socket.send(audio[start : start + 6400])
            socket.send(json.dumps({"type": "CloseStream"}))
            texts = []
            for message in socket:
                event = json.loads(message)
                if event.get("type") == "Results" and event.get("is_final"):
                    texts.append(event["channel"]["alternatives"][0]["transcript"])
            return socket.response.headers["x-speechpipe-bundle"], " ".join(text for text in texts if text)

    def traffic(self, count: int) -> Counter[str]:
        with ThreadPoolExecutor(TOGETHER) as pool:
            said = list(pool.map(self.say, range(self._count, self._count + count)))
        self._count += count
        return Counter(bundle for bundle, _ in said)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get("/v1/rollout").json()
        return found

    def start(self, text: str, candidate: str) -> None:
        answer = self.http.post("/v1/rollout/start", content=text, headers=TOML)
        assert answer.status_code == 201, answer.text
        self.until(lambda found: candidate in found["server"]["warm"] and found["server"]["ready"])

    def until(self, reached: Callable[[dict[str, Any]], object], sessions: int = 0) -> dict[str, Any]:
        limit = time.monotonic() + PATIENCE_S
        while not reached(status := self.status()):
            assert time.monotonic() < limit, status
            if sessions:
                self.traffic(sessions)
            else:
                time.sleep(0.1)
        return status


@pytest.fixture(scope="module")
def talkers(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talkers]:
    folder = tmp_path_factory.mktemp("models")
    catalogue = Catalogue([shipped_models(), folder])
    champion = catalogue.bundle("embedded")
    variants = {
        "strict": {"vad.threshold": 0.9, "vad.min_speech_s": 1.5},  # loses what is short
        "hasty": {"asr.maxhmmpf": 200, "asr.topn": 1, "asr.ds": 4},  # hears something else
        "tuned": {"asr.maxwpf": 8},
    }
    for name, changes in variants.items():
        install(derived(catalogue, champion, name, "1.0.0", changes), folder, catalogue)  # type: ignore[arg-type]
    server = start_server(
        bundle="embedded", workers="1", live_workers="1", models_dir=str(folder), live_load_limit="50", shadow_speed="0"
    )
    found = Talkers(server)
    with found.http:
        yield found


def real_plan(candidate: str, *steps: str) -> str:
    # Two noisy cores at full load: how soon text comes is not what is looked at here.
    return plan(candidate, *steps).replace("slow_s = 5.0", "slow_s = 60.0").replace("empty = 0.1", "empty = 0.2")


@pytest.mark.parametrize(("candidate", "half"), [("strict", "vad"), ("hasty", "asr")])
def test_shadow_names_the_half_that_is_worse(talkers: Talkers, candidate: str, half: str) -> None:
    long_shadow = SHADOW.replace("least_sessions = 10", "least_sessions = 24").replace("harm = 0.2", "harm = 0.1")
    talkers.start(real_plan(candidate, long_shadow, canary(0.2)), f"{candidate}@1.0.0")
    assert set(talkers.traffic(24)) == {"embedded@1.0.0"}
    status = talkers.until(lambda found: found["rollout"]["evidence"]["half"] == half, sessions=8)
    change = {row["measure"]: row["mean"] for row in status["rollout"]["shadow"]}
    assert change["shadow.difference"] > 0.1
    if candidate == "strict":
        status = talkers.until(lambda found: found["rollout"]["status"] == "rolled_back", sessions=8)
        assert status["rollout"]["reason"].split(":")[0] in ("null", "words")
    elif status["rollout"]["status"] == "running":
        assert talkers.http.post("/v1/rollout/rollback", json={"reason": "seen enough"}).status_code == 200


def test_a_canary_that_is_worse_is_rolled_back_by_itself(talkers: Talkers) -> None:
    talkers.start(real_plan("strict", canary(0.2)), "strict@1.0.0")
    status = talkers.until(lambda found: found["rollout"]["status"] == "rolled_back", sessions=12)
    assert status["rollout"]["reason"].startswith("no_trigger: ")
    assert status["champion"] == "embedded@1.0.0"
    assert set(talkers.traffic(4)) == {"embedded@1.0.0"}


def test_a_good_candidate_is_promoted_through_the_ramp(talkers: Talkers) -> None:
    talkers.start(real_plan("tuned", SHADOW, canary(0.3), canary(0.6)), "tuned@1.0.0")
    status = talkers.until(lambda found: found["rollout"]["status"] == "promoted", sessions=16)
    assert (status["champion"], status["previous"]) == ("tuned@1.0.0", "embedded@1.0.0")
    history = talkers.http.get("/v1/rollout/history").json()["history"]
    assert [entry["action"] for entry in history[:4]] == ["promote", "advance", "advance", "start"]
    assert set(talkers.traffic(4)) == {"tuned@1.0.0"}
