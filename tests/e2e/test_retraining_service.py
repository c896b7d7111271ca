"""Retraining on a server: taken up, stopped, interrupted by the server's death, gone on with by the next one."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import Server, StartServer
from tests.control.training.tones import manifest
from tests.interfaces.cli.test_commands import run
from tests.interfaces.cli.test_retrain import Place
from tests.patience import PATIENCE_S


def until(what: Callable[[], Any]) -> Any:
    limit = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < limit
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("service")
    found = Place(folder)
    source = manifest(folder / "learn", 40)
    variables = {**found.variables, "SPEECHPIPE_BUNDLE": "scripted"}
    made = ["train", "ctc", str(source), "--closed", "--name", "tones", "--epochs", "1"]
    assert run(*made, data=None, timeout_s=PATIENCE_S, **variables).returncode == 0
    shipped = (Path(__file__).parents[2] / "models" / "bundles" / "scripted.toml").read_text()
    (found.models / "tones.toml").write_text(shipped.replace("scripted", "tones"))
    return found


def start(start_server: StartServer, place: Place) -> Server:
    return start_server(
        bundle="tones", models_dir=str(place.models), state_dir=str(place.folder / "state"), workers="1",
        live_workers="1", operator_keys='["boss"]', api_keys='["client"]',
    )  # fmt: skip


def listed(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.url}/v1/retrain", headers={"Authorization": "Bearer client"}).json()
    return found


def state(server: Server) -> str:
    found: str = listed(server)["retrainings"][0]["state"]
    return found


@pytest.mark.long
def test_a_training_outlives_the_server_that_began_it(start_server: StartServer, place: Place) -> None:
    server = start(start_server, place)
    asked = place.run("retrain", "ctc", "--from", str(place.folder / "learn" / "manifest.jsonl"), "--detach")
    assert asked.returncode == 0, asked.stderr
    until(lambda: "epoch 3" in place.progress(1).get("what", ""))
    assert listed(server)["running"]["id"] == 1
    assert server.metric("speechpipe_retraining_running") == 1
    (trainer,) = [one for one in server.workers() if "speechpipe.control.training.process" in " ".join(one.cmdline())]
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(PATIENCE_S)
    until(lambda: not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE)

    server = start(start_server, place)
    until(lambda: listed(server)["running"])
    assert state(server) == "running"
    url, boss = f"{server.url}/v1/retrain", {"Authorization": "Bearer boss"}
    assert httpx.post(f"{url}/1/stop", json={}, headers={"Authorization": "Bearer client"}).status_code == 401
    assert httpx.post(f"{url}/1/stop", json={"reason": "not now"}, headers=boss).json()["state"] == "stopped"
    until(lambda: listed(server)["running"] is None)
    assert httpx.post(f"{url}/1/stop", json={}, headers=boss).status_code == 409
    assert httpx.post(f"{url}/1/resume", headers=boss).json()["state"] == "waiting"
    until(lambda: listed(server)["retrainings"][0]["rollout"] == "held at shadow")
    (done,) = listed(server)["retrainings"]
    assert done["state"] == "done"
    assert done["candidate"] == "tones@1.0.0-r1"
    assert done["figures"]["epochs"] == 20, "what was done before was not done again"
    actions = [line["action"] for line in done["history"]]
    assert actions[0] == "ask"
    assert actions[-2:] == ["done", "rollout"]
    assert {"begin", "go on", "stop", "again"} <= set(actions)
    until(lambda: server.metric("speechpipe_retrainings_total", cause="done") == 1)
    assert httpx.get(f"{server.url}/v1/rollout", headers=boss).json()["aliases"]["shadow"] == "tones@1.0.0-r1"


def test_what_cannot_be_done_over_http_says_why(start_server: StartServer) -> None:
    server = start_server(bundle="scripted", operator_keys='["boss"]', api_keys='["client"]')
    boss = {"Authorization": "Bearer boss"}

    def post(path: str, **body: object) -> tuple[int, str]:
        answer = httpx.post(f"{server.url}/v1/retrain{path}", json=body, headers=boss)
        return answer.status_code, answer.json().get("error", {}).get("code", "")

    assert post("", kind="lm") == (400, "no_recipe")
    assert post("", kind="ctc", bundle="nothing") == (404, "model_not_found")
    assert post("", kind="magic")[0] in (400, 422)
    assert post("", kind="ctc", source="/etc/passwd")[0] in (400, 422)
    assert post("/99/stop") == (404, "not_found")
    # Nobody has reviewed anything: it is taken, and fails with its cause.
    assert post("", kind="vad")[0] == 201
    failed = until(lambda: next((job for job in listed(server)["retrainings"] if job["state"] == "failed"), None))
    assert failed["cause"] == "too_few_reviews"
    panel = httpx.get(f"{server.url}/v1/retrain/panel", headers=boss).text
    assert "failed (too_few_reviews)" in panel
    assert "there is no policy" in panel
    assert 'id="retraining"' in httpx.get(f"{server.url}/").text
