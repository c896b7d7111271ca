"""A bundle that is added while the server runs: every interface knows it when it is named."""

import json
from collections.abc import Iterator

import httpx
import pytest
from websockets.sync.client import connect

from tests.conftest import Server, StartServer
from tests.interfaces.cli.test_commands import run
from tests.patience import PATIENCE_S
from tests.sounds import SAMPLES


@pytest.fixture(scope="module")
def running(start_server: StartServer) -> Server:
    return start_server(bundle="scripted", workers="1", live_workers="1")


@pytest.fixture
def client(running: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=PATIENCE_S) as made:
        yield made


def add(server: Server, name: str) -> None:
    words = ("bundles", "add", "--from", "scripted", "--name", name)
    done = run(*words, SPEECHPIPE_STATE_DIR=str(server.state))
    assert done.returncode == 0, done.stderr


def test_http_knows_it_at_the_first_request(running: Server, client: httpx.Client) -> None:
    add(running, "late1")
    assert client.get("/v1/rollout/plan", params={"candidate": "late1"}).status_code == 200
    add(running, "late2")
    assert client.get("/v1/models/late2").status_code == 200
    add(running, "late3")
    sound = {"file": ("a.flac", (SAMPLES / "digits.flac").read_bytes())}
    answer = client.post("/v1/audio/transcriptions", files=sound, data={"model": "late3"})
    assert answer.status_code == 200, answer.text
    assert client.get("/v1/models/late4").json()["error"]["code"] == "model_not_found"


def test_a_live_session_knows_it_when_it_begins_and_when_it_is_changed(running: Server) -> None:
    url = running.url.replace("http", "ws")
    add(running, "late5")
    with connect(f"{url}/v1/realtime?intent=transcription&model=late5", open_timeout=PATIENCE_S) as socket:
        created = json.loads(socket.recv(PATIENCE_S))
        assert created["speechpipe"]["bundle"] == "late5@1.0.0"
        add(running, "late6")
        changed = {"type": "transcription", "audio": {"input": {"transcription": {"model": "late6"}}}}
        socket.send(json.dumps({"type": "session.update", "session": changed}))
        updated = json.loads(socket.recv(PATIENCE_S))
        assert updated["type"] == "session.updated", updated
        assert updated["speechpipe"]["bundle"] == "late6@1.0.0"
