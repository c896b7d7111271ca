"""The command line and a server that was started with another bundle than the settings of the shell name."""

import asyncio
import json
import os
import subprocess

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests import preloaded
from tests.conftest import Server, StartServer
from tests.control.rollout.cards import write
from tests.control.rollout.test_serving import GUARDS, canary
from tests.patience import PATIENCE_S


def speechpipe(server: Server, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command beside a server, in a shell that knows its state directory and nothing else of it."""
    environment = {**os.environ, "SPEECHPIPE_STATE_DIR": str(server.state)}
    return preloaded.run(*arguments, env=environment, input=text, text=True)


def test_the_command_line_reads_the_champion_in_the_store_and_a_rollback_goes_to_what_served(
    start_server: StartServer,
) -> None:
    server = start_server(bundle="scripted", workers="1", live_workers="1")
    write(server.state / "models", "same")
    shown = speechpipe(server, "rollout", "status", "--json")
    assert json.loads(shown.stdout)["champion"] == "scripted@1.0.0", shown.stderr
    plan = f'candidate = "same"\napproval = "none"\n{canary(0.5)}{GUARDS}'
    started = speechpipe(server, "rollout", "start", "-", text=plan)
    assert started.returncode == 0, started.stderr
    assert "next: no session of the candidate yet" in " ".join(started.stdout.split())
    status = httpx.get(f"{server.url}/v1/rollout").json()
    assert (status["champion"], status["rollout"]["champion"]) == ("scripted@1.0.0", "scripted@1.0.0")
    assert speechpipe(server, "rollout", "rollback", "--reason", "sounds odd").returncode == 0
    assert httpx.get(f"{server.url}/v1/rollout").json()["champion"] == "scripted@1.0.0"
    lines = [entry["action"] for entry in httpx.get(f"{server.url}/v1/rollout/history").json()["history"]]
    assert lines == ["rollback", "start", "serve"]


def test_a_plan_for_a_bundle_that_does_not_exist_is_refused(server: Server) -> None:
    refused = speechpipe(server, "rollout", "plan", "nope")
    assert refused.returncode != 0
    assert refused.stdout == ""
    assert "'nope' does not exist" in refused.stderr
    assert httpx.get(f"{server.url}/v1/rollout/plan", params={"candidate": 'x"\n[evil]'}).status_code == 404


def test_weights_that_are_not_here_are_said_at_once_on_an_upload(server: Server) -> None:
    files = {"file": ("a.wav", b"RIFF")}
    answer = httpx.post(
        f"{server.url}/v1/audio/transcriptions", files=files, data={"model": "wav2vec2"}, timeout=PATIENCE_S
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "weights_missing")
    assert str(server.state) not in answer.text
    assert "/models/" not in answer.text


@pytest.mark.anyio
async def test_weights_that_are_not_here_are_said_at_once_on_live_audio(server: Server) -> None:
    url = server.url.replace("http", "ws")
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"{url}/v1/listen?model=wav2vec2&encoding=linear16&sample_rate=16000"):
            pass
    assert refused.value.response.status_code == 404
    async with connect(f"{url}/v1/realtime?intent=transcription") as socket:
        update = {"type": "transcription", "audio": {"input": {"transcription": {"model": "wav2vec2"}}}}
        await socket.send(json.dumps({"type": "session.update", "session": update}))
        async with asyncio.timeout(PATIENCE_S):
            while (message := json.loads(await socket.recv()))["type"] != "error":
                pass
    assert message["error"]["code"] == "weights_missing"
    assert "/models/" not in json.dumps(message)
