"""Faults in every background thread and every outgoing call of a running server: does each go on, is each loss counted?

python benchmarks/fault_injection.py [--record]

Threads: the body of each registered task raises (five kinds of exception), hangs for some seconds, finds its store
refused, or is given garbage records. Outgoing calls: the webhook's and a callback's receiver answers garbage, hangs,
refuses, breaks off, redirects, or fails; an alarm that begins meanwhile must be told once when the way is open, and the
callback must arrive. Exits with 1 if anything did not go on, was lost uncounted, or was told twice or never.
"""

import argparse
import contextlib
import json
import logging
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from measure import Figure, add_record, record
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from speechpipe.app import build
from speechpipe.config import Settings
from speechpipe.control.review import PRIORITY, ReviewReason
from speechpipe.control.review.job_repository import Job
from speechpipe.control.review.service import reviewing_of
from speechpipe.control.review.task_repository import Reviewer
from speechpipe.control.review.tasks import Draft, DraftSegment, Task
from speechpipe.foundation.background import BackgroundTask
from speechpipe.foundation.storage.database import Database
from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.storage.store import Store
from speechpipe.interfaces.api.app import create_app
from speechpipe.monitor.alarms import Condition, step
from speechpipe.monitor.repository import Archive
from speechpipe.serving.live.manager import StreamManager
from speechpipe.serving.service import Service

SAMPLES = Path(__file__).parents[1] / "audio_samples"
PATIENCE_S = 180.0
HANG_S = 3.0
TIMES = 2
EXCEPTIONS: dict[str, Callable[[], Exception]] = {
    "RuntimeError": lambda: RuntimeError("unforeseen"),
    "MemoryError": MemoryError,
    "OSError": lambda: OSError(24, "Too many open files"),
    "locked database": lambda: OperationalError("INSERT", {}, Exception("database is locked")),
    "UnicodeError": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
}
ANSWERS: dict[str, bytes | None] = {
    "garbage": b"\x00\xff\x01 nothing\r\n\r\n",
    "half an answer": b"HTTP/1.1 20",
    "endless header": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1_000_000,
    "status 500": b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "closed": b"",
    "hang": None,
}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Receiver:
    """A peer on a raw socket that answers as `answer` says; keeps the bodies that it has answered well."""

    def __init__(self) -> None:
        self.answer: bytes | None = OK
        self.bodies: list[bytes] = []
        self.bad = 0
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, args=(self._socket,), daemon=True).start()

    def refuse(self) -> None:
        self._socket.close()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            pass  # ends the accept that still waits

    def listen(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", self.port), backlog=100)
        threading.Thread(target=self._serve, args=(self._socket,), daemon=True).start()

    def _serve(self, listening: socket.socket) -> None:
        while listening.fileno() >= 0:
            with contextlib.suppress(OSError):
                connection, _ = listening.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, IndexError, ValueError):
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(65536)
            head, _, body = data.partition(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            while len(body) < length:
                body += connection.recv(65536)
            answer = self.answer
            if answer == OK:
                self.bodies.append(body)
            else:
                self.bad += 1
            if answer is None:
                connection.settimeout(60)
                connection.recv(1)
            else:
                connection.sendall(answer)

    def count(self, mark: str) -> int:
        return sum(mark.encode() in body for body in self.bodies)


class Injected:
    """A task's body that does something else some times, and then is what it was."""

    def __init__(self, task: BackgroundTask, fault: Callable[[], None], times: int = TIMES) -> None:
        self.task, self.left, self.worked = task, times, 0
        self._fault, self._plain = fault, task.body
        task.body = self

    def __call__(self) -> None:
        if self.left:
            self.left -= 1
            self._fault()
        self._plain()
        self.worked += 1

    def went_on(self) -> bool:
        self.task.wake()
        return not self.left and self.worked > 0 and self.task.status.alive

    def remove(self) -> None:
        self.task.body = self._plain


def waited(true: Callable[[], bool], patience_s: float = PATIENCE_S) -> bool:
    until = time.monotonic() + patience_s
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


class Trial:
    def __init__(self, service: Service, client: TestClient, receiver: Receiver) -> None:
        assert service.store is not None
        self.service, self.client, self.receiver = service, client, receiver
        self.store: Store = service.store
        self.archive = Archive(lambda: self.store.engine)
        self.alarms: dict[str, str] = {}  # id -> the fault during which it began
        self.jobs: dict[str, str] = {}
        self.broken: list[str] = []
        self.count = 0

    def serves(self) -> bool:
        with (SAMPLES / "digits.flac").open("rb") as file:
            answer = self.client.post("/v1/audio/transcriptions", files={"file": file}, data={"model": "default"})
        return answer.status_code == 200 and bool(answer.json()["text"])

    def serves_at_all(self) -> bool:
        """While the threads hang: recognition may wait for a supervisor, the server may not."""
        return all(self.client.get("/livez").status_code == 200 for _ in range(20))

    def check(self, good: bool, what: str) -> str:
        if not good:
            self.broken.append(what)
        return "yes" if good else "NO"

    def alarm(self, fault: str) -> None:
        """Begin an alarm, as the watch does."""
        self.count += 1
        now = time.time()
        (found,) = step([], now, [Condition("limit", f"fault.{self.count}", "asr", "page", "nobody", fault)])
        sinks = [task.name.removeprefix("alarms-") for task in self.service.tasks if task.name.startswith("alarms-")]
        self.archive.save([found], sinks, now)
        self.alarms[found.alarm.id] = fault

    def callback(self, fault: str) -> None:
        """Have a person answer what a client waits for."""
        self.count += 1
        reviewing, name, now = reviewing_of(self.service), f"job-{self.count}", time.time()
        assert reviewing is not None
        piece = DraftSegment("p0", 0.0, 0.9, "one", words=[], confidence=0.8, chance=1.0)
        task = Task(
            id=f"task-{self.count}",
            job=name,
            tenant="acme",
            channel="upload",
            bundle=self.service.engine.champion.id,
            degree="assist",
            why=ReviewReason.DEGREE,
            priority=PRIORITY[ReviewReason.DEGREE],
            created_at=now,
            duration_s=1.0,
            audio_hash="",
            draft=Draft((piece,), False, 1.0, 1.0),
        )
        url = f"http://127.0.0.1:{self.receiver.port}/callback"
        reviewing.operations.add([task], Job(name, "acme", now, {"status_url": "/x"}, callback=url))
        held = reviewing.operations.queue.claim(Reviewer("ann"), lambda _: True)
        assert held is not None
        said = {"start": 0.0, "end": 0.9, "text": "one", "kind": "speech", "of": ["p0"]}
        reviewing.operations.submit(held.id, Reviewer("ann"), held.lease, [said], 0.0)
        self.jobs[name] = fault

    # ---- threads ----

    def threads(self, fault: str, do: Callable[[], None], during: Callable[[], bool] = lambda: True) -> None:
        tasks = list(self.service.tasks)
        before = {id(task): task.status.failures for task in tasks}
        injected = [Injected(task, do) for task in tasks]
        self.alarm(fault)
        served = during()
        waited(lambda: sum(one.went_on() for one in injected) == len(injected))
        for one in injected:
            counted = one.task.status.failures - before[id(one.task)]
            on = self.check(one.went_on(), f"{one.task.name} after {fault}")
            print(f"  {fault:16} {one.task.name:20} went on: {on:4} failures counted: {counted}")
            one.remove()
        print(f"  {fault:16} served meanwhile: {self.check(served, f'service during {fault}')}")
        self.check(self.serves(), f"service after {fault}")

    def refused(self) -> None:
        """No connection to the store for some seconds."""
        plain, lost = Database.engine, self.store.lost.total()
        self.store.flush(30)
        before = self.store.written
        self.alarm("store refused")
        Database.engine = property(lambda _: (_ for _ in ()).throw(ConnectionRefusedError(111, "refused")))  # type: ignore[assignment, method-assign]
        try:
            served = all(self.serves() for _ in range(5))
            time.sleep(HANG_S)
            failing = sorted(task.name for task in self.service.tasks if task.status.failing)
        finally:
            Database.engine = plain  # type: ignore[method-assign]
        flushed = self.store.flush(PATIENCE_S)
        recovered = waited(lambda: not any(task.status.failing for task in self.service.tasks))
        kept = flushed and self.store.lost.total() == lost and self.store.written > before
        print(f"  store refused    failing meanwhile: {', '.join(failing)}")
        print(
            f"  store refused    served: {self.check(served, 'service without its store')}"
            f" records kept: {self.check(kept, 'records')} all go on: {self.check(recovered, 'threads')}"
        )

    def garbage(self) -> None:
        """Records that nobody should write."""
        common: dict[str, Any] = {
            "session_id": "s",
            "at": time.time(),
            "channel": "upload",
            "bundle": "b",
            "bundle_version": "1",
        }
        strange: list[dict[str, Any]] = [
            {"measures": {"x": object()}},
            {"measures": {1: 2}},
            {"session_id": "lone \ud800"},
            {"at": "yesterday"},
            {"versions": {"vad": "\udfff"}},
            {"measures": None},
        ]
        taken: list[dict[str, Any]] = [
            {"measures": {"input.level_dbfs": "loud", "vad.segments": "many"}},
            {"measures": {"input.level_dbfs": float("nan"), "software.wall_s": float("inf")}},
            {"session_id": "nul \0", "outcome": "\0"},
            {"kind": "nonsense"},
        ]
        self.store.flush(60)
        before = Counter(self.store.lost)
        for number, change in enumerate([*strange, *taken]):
            kind = change.pop("kind", "session")
            self.store.append(Record(kind, f"garbage-{number}", **{**common, **change}))
        flushed = self.store.flush(60)
        lost = Counter(self.store.lost) - before
        good = flushed and lost == Counter(unencodable=len(strange))
        follows = waited(lambda: self.archive.cursor_seq() >= self.store.last_seq())
        print(
            f"  garbage records  lost: {dict(lost)} of {len(strange)}, counted: {self.check(good, 'garbage counted')}"
            f" the watch goes on: {self.check(follows, 'the watch after garbage')}"
        )

    # ---- outgoing calls ----

    def outgoing(self, fault: str, begin: Callable[[], None], end: Callable[[], None]) -> None:
        tries = self.tries()
        begin()
        self.alarm(fault)
        self.callback(fault)
        counted = waited(lambda: self.tries() >= tries + 2, 60)
        served = self.serves()
        end()
        (alarm, job) = ([*self.alarms][-1], [*self.jobs][-1])
        told = waited(lambda: self.receiver.count(alarm) > 0)
        called = waited(lambda: self.receiver.count(job) > 0)
        print(
            f"  {fault:16} failures counted: {self.check(counted, f'failures of {fault} counted')}"
            f" served: {self.check(served, f'service during {fault}')}"
            f" alarm told: {self.check(told, f'alarm after {fault}')}"
            f" callback told: {self.check(called, f'callback after {fault}')}"
        )

    def tries(self) -> int:
        text = self.client.get("/metrics").text
        found = 0.0
        for line in text.splitlines():
            webhook = line.startswith('speechpipe_alarm_notices_total{outcome="failed",sink="webhook"}')
            callback = line.startswith("speechpipe_callbacks_total{") and 'cause="sent"' not in line
            if webhook or callback:
                found += float(line.split()[-1])
        return int(found)

    def once(self) -> None:
        """Every alarm was told once, every callback arrived once."""
        waited(lambda: all(self.receiver.count(alarm) for alarm in self.alarms), 60)
        time.sleep(3.0)
        told = Counter(self.receiver.count(alarm) for alarm in self.alarms)
        called = Counter(self.receiver.count(job) for job in self.jobs)
        good = set(told) == {1} and set(called) <= {1}
        print(
            f"{len(self.alarms)} alarms, {told[1]} told once, {told[0]} never, {sum(told.values()) - told[0] - told[1]}"
            f" more than once; {len(self.jobs)} callbacks, {called[1]} made once: {self.check(good, 'told once')}"
        )
        print(f"records lost: {dict(self.store.lost)}, written: {self.store.written}")


def raising(make: Callable[[], Exception]) -> Callable[[], None]:
    def fault() -> None:
        raise make()

    return fault


@contextlib.contextmanager
def running(receiver: Receiver) -> Iterator[Trial]:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            bundle="scripted",
            workers=1,
            live_workers=1,
            state_dir=Path(folder),
            probes=SAMPLES / "manifest.jsonl",
            keep_audio_hours=1.0,
            alarm_webhook=f"http://127.0.0.1:{receiver.port}/hook",
            callbacks=[f"http://127.0.0.1:{receiver.port}/callback"],
            drain_timeout_s=5,
        )
        service = build(settings, live=True)
        app = create_app(service, StreamManager(service), lambda error: sys.exit(f"no start: {error}"))
        with TestClient(app, base_url="http://127.0.0.1:8000") as client:
            if not waited(lambda: client.get("/readyz").status_code == 200):
                sys.exit("never ready")
            waited(lambda: all(task.status.alive for task in service.tasks))
            yield Trial(service, client, receiver)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_record(parser)
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    receiver = Receiver()
    with running(receiver) as trial:
        print("threads")
        for name, make in EXCEPTIONS.items():
            trial.threads(name, raising(make))
        trial.threads("hang", lambda: time.sleep(HANG_S), trial.serves_at_all)
        trial.refused()
        trial.garbage()
        print("outgoing calls")
        for fault, answer in ANSWERS.items():
            trial.outgoing(
                fault,
                partial(setattr, receiver, "answer", answer),
                partial(setattr, receiver, "answer", OK),
            )
        trial.outgoing("refused", receiver.refuse, receiver.listen)
        trial.once()
        summary = {"broken": trial.broken, "alarms": len(trial.alarms), "callbacks": len(trial.jobs)}
    print(json.dumps(summary))
    if asked.record:
        kinds = len(EXCEPTIONS) + 3 + len(ANSWERS) + 1
        what = f"{kinds} kinds of faults in background threads and outgoing calls: what stopped, or was lost uncounted"
        record([Figure(what, "0", str(len(trial.broken)), not trial.broken)])
    return 1 if trial.broken else 0


if __name__ == "__main__":
    sys.exit(main())
