"""Rollouts on a running server, over HTTP, with scripted recognizers and real audio."""

import io
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import soundfile

from tests.conftest import Server, StartServer
from tests.control.rollout.cards import write
from tests.patience import PATIENCE_S, until

SAMPLE = Path(__file__).parents[3] / "audio_samples" / "digits.flac"
pytestmark = pytest.mark.long

TOML = {"content-type": "application/toml"}

GUARDS = "\n[guards]\n" + "".join(
    f"{name} = {rate}\n"
    for name, rate in {
        **dict.fromkeys(
            ("error", "empty", "no_trigger", "redo", "switch_to_typing", "abandon", "correction", "wrong"), 0.1
        ),
        "slow": 0.5,
    }.items()
)
SHADOW = '[[steps]]\nmode = "shadow"\nharm = 0.2\nleast_sessions = 10\n'


def canary(weight: float) -> str:
    return f'[[steps]]\nmode = "canary"\nweight = {weight}\nmargin = 3.0\nleast_sessions = 5\n'


def plan(candidate: str, *steps: str, approval: str = "none") -> str:
    return f'candidate = "{candidate}"\napproval = "{approval}"\nslow_s = 5.0\n' + "".join(steps) + GUARDS


class Client:
    """Uploads, and an operator."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.http = httpx.Client(base_url=server.url, timeout=PATIENCE_S)
        sound, rate = soundfile.read(SAMPLE, dtype="float32")
        buffer = io.BytesIO()
        soundfile.write(buffer, sound[: 3 * rate], rate, format="WAV", subtype="PCM_16")
        self._wav = buffer.getvalue()

    def upload(self, user: str = "", model: str = "default") -> httpx.Response:
        headers = {"X-Speechpipe-User": user} if user else {}
        files = {"file": ("a.wav", self._wav)}
        return self.http.post("/v1/audio/transcriptions", files=files, data={"model": model}, headers=headers)

    def traffic(self, count: int) -> Counter[str]:
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: self.upload(), range(count)))
        return Counter(answer.headers.get("x-speechpipe-bundle", str(answer.status_code)) for answer in answers)

    def start(self, text: str) -> None:
        answer = self.http.post("/v1/rollout/start", content=text, headers=TOML)
        assert answer.status_code == 201, answer.text

    def act(self, action: str, reason: str = "for a test") -> httpx.Response:
        return self.http.post(f"/v1/rollout/{action}", json={"reason": reason})

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get("/v1/rollout").json()
        return found

    def until(self, reached: Callable[[dict[str, Any]], object], *, sessions: int = 0) -> dict[str, Any]:
        """Go on, with traffic or without, until the status is as it should be."""
        limit = time.monotonic() + PATIENCE_S
        while not reached(status := self.status()):
            assert time.monotonic() < limit, status
            if sessions:
                self.traffic(sessions)
            else:
                time.sleep(0.1)
        return status

    def warm(self, bundle: str) -> None:
        self.until(lambda status: bundle in status["server"]["warm"] and status["server"]["ready"])


@pytest.fixture(scope="module")
def client(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    models = tmp_path_factory.mktemp("models")
    write(models, "same")
    write(models, "deaf", "empty_below_level = 2.0")
    write(models, "crash", "crash_above_level = 0.02")
    write(models, "unloadable", "crash_above_level = 0.0")
    write(models, "slow", "cost = 4.0")
    settings = {"bundle": "scripted", "workers": "1", "live_workers": "1", "shadow_speed": "0"}
    found = Client(start_server(models_dir=str(models), **settings))
    with found.http:
        yield found


@pytest.fixture(autouse=True)
def _ended(client: Client) -> None:
    if (status := client.status())["rollout"] is not None and status["rollout"]["status"] in ("running", "waiting"):
        client.act("rollback")
    if client.status()["champion"] != "scripted@1.0.0":
        client.act("rollback")


def test_an_identical_candidate_differs_in_nothing_and_climbs_to_the_top(client: Client) -> None:
    client.start(plan("same", SHADOW, canary(0.5)))
    client.warm("same@1.0.0")
    served = Counter(client.traffic(20))
    assert set(served) == {"scripted@1.0.0"}, "shadow answers nobody"
    status = client.until(lambda found: found["rollout"]["step"] == 1, sessions=10)
    entry = client.http.get("/v1/rollout/history").json()["history"][0]
    assert entry["action"] == "advance"
    events = {row["guard"]: row["candidate"]["events"] for row in entry["evidence"]["guards"]}
    events.pop("cost")  # CPU time of a decode of a millisecond may well be twice another's on a busy machine
    assert set(events.values()) == {0}, events
    assert set(client.traffic(30)) == {"scripted@1.0.0", "same@1.0.0"}
    status = client.until(lambda found: found["rollout"]["status"] == "promoted", sessions=20)
    assert (status["champion"], status["previous"]) == ("same@1.0.0", "scripted@1.0.0")
    assert set(client.traffic(10)) == {"same@1.0.0"}
    assert client.act("rollback", "somebody complains").status_code == 200
    twice = client.act("rollback", "somebody complains")
    assert (twice.status_code, twice.json()["error"]["code"]) == (409, "conflict")
    status = client.status()
    assert (status["champion"], status["came_from"], status["previous"]) == ("scripted@1.0.0", "same@1.0.0", None)
    assert status["rollout"]["status"] == "rolled_back"
    until(lambda: client.upload().headers["x-speechpipe-bundle"] == "scripted@1.0.0")


def test_shadow_finds_a_deaf_recognizer_and_says_which_half_it_is(client: Client) -> None:
    client.start(plan("deaf", SHADOW, canary(0.5)))
    client.warm("deaf@1.0.0")
    status = client.until(lambda found: found["rollout"]["status"] == "rolled_back", sessions=10)
    assert status["rollout"]["reason"].startswith("null: ") or status["rollout"]["reason"].startswith("words: ")
    assert status["rollout"]["evidence"]["half"] == "asr"
    assert status["champion"] == "scripted@1.0.0"


def test_a_canary_that_hears_nothing_is_rolled_back(client: Client) -> None:
    client.start(plan("deaf", canary(0.2)))
    client.warm("deaf@1.0.0")
    status = client.until(lambda found: found["rollout"]["status"] == "rolled_back", sessions=20)
    assert status["rollout"]["reason"].startswith("empty: 100.0% of the candidate's")
    assert set(client.traffic(20)) == {"scripted@1.0.0"}


def test_a_candidate_that_crashes_on_every_segment_hurts_nobody_on_the_champion(client: Client) -> None:
    client.start(plan("crash", canary(0.2)))
    client.warm("crash@1.0.0")
    seen: Counter[str] = Counter()
    limit = time.monotonic() + PATIENCE_S
    while client.status()["rollout"]["status"] == "running":
        assert time.monotonic() < limit
        seen += client.traffic(12)
    assert client.status()["rollout"]["reason"].startswith("error: ")
    assert set(seen) <= {"scripted@1.0.0", "500"}
    assert set(client.traffic(12)) == {"scripted@1.0.0"}
    assert client.server.metric("speechpipe_worker_restarts_total", pool="files", cause="crash") == 0


def test_a_candidate_that_cannot_be_loaded_never_gets_a_session(client: Client) -> None:
    client.start(plan("unloadable", canary(0.5)))
    served = client.traffic(10)
    status = client.until(lambda found: found["rollout"]["status"] == "rolled_back")
    assert "cannot run" in status["rollout"]["reason"]
    assert set(served) == {"scripted@1.0.0"}


def test_a_slow_candidate_is_shed_in_shadow_and_counted(client: Client) -> None:
    client.start(plan("slow", SHADOW.replace("least_sessions = 10", "least_sessions = 100000"), canary(0.5)))
    client.warm("slow@1.0.0")
    client.traffic(40)  # who is served does not wait for shadow: it has not heard most of this yet
    client.until(
        lambda found: found["rollout"]["status"] == "rolled_back" or found["server"]["shadow"]["waiting_s"] > 60
    )
    client.act("rollback")
    status = client.until(lambda found: found["server"]["shadow"]["waiting_s"] == 0)
    assert status["server"]["shadow"].get("ended", 0) > 0


def test_a_user_stays_on_one_arm_while_the_ramp_goes_up(client: Client) -> None:
    client.start(plan("same", canary(0.3), canary(0.6), approval="steps"))
    client.warm("same@1.0.0")
    users = [f"user{number}" for number in range(30)]
    first = {user: client.upload(user).headers["x-speechpipe-bundle"] for user in users}
    assert first == {user: client.upload(user).headers["x-speechpipe-bundle"] for user in users}
    client.until(lambda found: found["rollout"]["status"] == "waiting", sessions=20)
    assert client.act("approve").json()["rollout"]["step"] == 1
    second = {user: client.upload(user).headers["x-speechpipe-bundle"] for user in users}
    assert all(second[user] == "same@1.0.0" for user in users if first[user] == "same@1.0.0")
    assert Counter(second.values())["same@1.0.0"] > Counter(first.values())["same@1.0.0"]
    assert client.upload("user0", model="fast").headers["x-speechpipe-bundle"] == "fast@2.0.0"


def test_blue_green_switches_all_new_sessions_at_once_and_back(client: Client) -> None:
    client.start(plan("same", '[[steps]]\nmode = "blue_green"\nmargin = 3.0\n', approval="promotion"))
    client.warm("same@1.0.0")
    assert set(client.traffic(10)) == {"same@1.0.0"}
    assert client.act("promote").status_code == 409, "no promotion without evidence"
    client.until(lambda found: found["rollout"]["status"] == "waiting", sessions=20)
    assert client.act("rollback").status_code == 200
    until(lambda: set(client.traffic(4)) == {"scripted@1.0.0"})


def test_champions_workers_that_die_during_a_promotion_leave_the_service_up(client: Client) -> None:
    # `same` would have the champion's recognizer and share its workers: this one has workers of its own.
    client.start(plan("deaf", canary(0.5), approval="steps"))
    client.warm("deaf@1.0.0")
    old = [process for process in client.server.workers() if process.is_running()]
    for process in old[:2]:  # the champion's came first
        process.kill()
    answers = [client.upload() for _ in range(10)]
    assert all(answer.status_code == 200 for answer in answers)


def test_operators_only_change_what_can_be_changed(client: Client) -> None:
    assert client.act("resume").status_code == 409
    assert client.act("rollback", "  ").json()["error"]["code"] == "missing_reason"
    assert client.act("explode").status_code == 400
    answer = client.http.post("/v1/rollout/start", content='candidate = "x"\ncolour = 1', headers=TOML)
    assert answer.json()["error"]["code"] == "bad_plan"
    answer = client.http.post("/v1/rollout/start", content=plan("nobody", canary(0.1)), headers=TOML)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    text = client.http.get("/v1/rollout/plan", params={"candidate": "same", "case": "new"}).json()["plan"]
    assert 'case = "new"' in text


def test_a_restart_takes_the_route_up_and_a_second_process_agrees(start_server: StartServer, tmp_path: Path) -> None:
    write(tmp_path / "models", "deaf", "empty_below_level = 2.0")
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    settings = {"bundle": "scripted", "workers": "1", "live_workers": "1", "models_dir": str(tmp_path / "models")}
    settings["operator_keys"] = '["op"]'
    first, second = (Client(start_server(store_url=url, **settings)) for _ in range(2))
    assert first.http.post("/v1/rollout/start", content=plan("deaf", canary(0.9)), headers=TOML).status_code == 401
    for one in (first, second):
        one.http.headers["Authorization"] = "Bearer op"
    first.start(plan("deaf", canary(0.9), approval="steps"))
    second.warm("deaf@1.0.0")
    first.warm("deaf@1.0.0")
    users = [f"u{number}" for number in range(12)]
    arms = [{user: one.upload(user).headers["x-speechpipe-bundle"] for user in users} for one in (first, second)]
    assert arms[0] == arms[1]
    assert "deaf@1.0.0" in arms[0].values()
    second.act("rollback", "enough")
    first.until(lambda found: found["rollout"]["status"] == "rolled_back")
    until(lambda: first.upload("u1").headers["x-speechpipe-bundle"] == "scripted@1.0.0")
    third = Client(start_server(store_url=url, **settings))
    assert third.status()["rollout"]["reason"] == "enough"
    for one in (first, second, third):
        one.http.close()
