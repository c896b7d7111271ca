"""Every background thread of a whole server: its body raises what nobody foresaw, and it goes on."""

import ast
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import soundfile
from starlette.testclient import TestClient

from speechpipe.app import build
from speechpipe.config import Settings
from speechpipe.foundation.background import BackgroundTask
from speechpipe.interfaces.api.app import create_app
from speechpipe.serving.live.manager import StreamManager
from tests.patience import PATIENCE_S
from tests.sounds import SAMPLES

PACKAGE = Path(__file__).parents[1] / "speechpipe"

MAY_START_THREADS = {
    "foundation/background.py": "the one place",
    "cascade/workers/process.py": "the two ends of one worker's pipe; they end with the process",
    "interfaces/api/server.py": "the watchdog that ends a process whose shutdown hangs",
    "cascade/asr/scripted.py": "stands for the threads of native libraries; ends within one decode",
    "cascade/audio/ffmpeg_stream.py": "one live stream's decoder; ends with the stream",
}
KNOWN = {
    *("store-writer", "monitor", "system-records", "housekeeping", "alarms-log", "alarms-webhook", "alarms-demotion"),
    *("probes", "audio-sweep", "live-tick"),
}
TIMES = 3


class Broken:
    """A task's body that raises some times, and then is what it was."""

    def __init__(self, task: BackgroundTask) -> None:
        self.task = task
        self.raised = self.worked = 0
        self._plain = task.body
        task.body = self

    def __call__(self) -> None:
        if self.raised < TIMES:
            self.raised += 1
            raise RuntimeError("unforeseen")
        self._plain()
        self.worked += 1

    @property
    def went_on(self) -> bool:
        self.task.wake()  # some run once in ten minutes
        return self.raised == TIMES and self.worked > 0


def eventually(true: Callable[[], bool], said: Callable[[], object] = lambda: "", wait_s: float = PATIENCE_S) -> None:
    until = time.monotonic() + wait_s
    while not true():
        assert time.monotonic() < until, said()
        time.sleep(0.05)


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def upload(client: TestClient) -> str:
    with (SAMPLES / "digits.flac").open("rb") as file:
        answer = client.post("/v1/audio/transcriptions", files={"file": file}, data={"model": "default"})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["text"])


def live(client: TestClient) -> str:
    samples, _ = soundfile.read(SAMPLES / "digits.flac", dtype="int16")
    with client.websocket_connect("/v1/listen?encoding=linear16&sample_rate=16000") as socket:
        for start in range(0, len(samples), 8000):
            socket.send_bytes(samples[start : start + 8000].tobytes())
        socket.send_text(json.dumps({"type": "CloseStream"}))
        texts = []
        while (message := socket.receive())["type"] == "websocket.send":
            found = json.loads(message["text"])
            if found.get("type") == "Results" and found["is_final"]:
                texts.append(found["channel"]["alternatives"][0]["transcript"])
    return " ".join(text for text in texts if text)


def test_every_task_goes_on_after_what_nobody_foresaw_and_the_server_serves(tmp_path: Path) -> None:
    receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    settings = Settings(
        bundle="scripted",
        workers=1,
        live_workers=1,
        live_load_limit=100,
        live_max_speed=0,
        state_dir=tmp_path,
        probes=SAMPLES / "manifest.jsonl",
        keep_audio_hours=1.0,
        alarm_webhook=f"http://127.0.0.1:{receiver.server_port}/hook",
        drain_timeout_s=5,
    )
    service = build(settings, live=True)
    app = create_app(service, StreamManager(service), lambda error: pytest.fail(repr(error)))
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        eventually(lambda: client.get("/readyz").status_code == 200, lambda: client.get("/readyz").text)
        before = upload(client), live(client)
        assert all(before)
        found = list(service.tasks)
        assert {task.name for task in found} >= KNOWN
        eventually(lambda: all(task.status.alive for task in found), lambda: [task.status for task in found])
        broken = [Broken(task) for task in found]
        eventually(
            lambda: sum(one.went_on for one in broken) == len(broken),  # not `all`: every one is woken
            lambda: [(one.task.name, one.raised, one.worked, one.task.status) for one in broken if not one.went_on],
        )
        for task in found:
            assert task.status.alive, task.status
            assert task.status.failures >= TIMES
        eventually(lambda: not any(task.status.failing for task in found))
        assert (upload(client), live(client)) == before
        shown = client.get("/metrics").text
        assert not [task.name for task in found if f'background_task_failures_total{{task="{task.name}"}}' not in shown]
        assert service.store is not None
        assert service.store.flush(60)
        assert not service.store.lost
    receiver.shutdown()
    receiver.server_close()


def test_threads_are_started_by_background_tasks_only() -> None:
    starting = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in ("Thread", "Timer"):
                starting.add(str(path.relative_to(PACKAGE)))
    assert starting <= set(MAY_START_THREADS), starting - set(MAY_START_THREADS)
