"""The life of an alarm, and what its receivers are sent."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from speechpipe.monitor.alarms import RESOLVE_S, AlarmBook, Condition
from speechpipe.monitor.sinks import WebhookSink, payload


def condition(for_s: float = 0.0, value: float = 1.0) -> Condition:
    return Condition("limit", "m.x", "m", "page", "g", "x is above its limit", value, 0.5, for_s)


def test_pending_then_firing_then_resolved() -> None:
    book = AlarmBook()
    (alarm,) = book.step(100, [condition(60)])
    assert alarm.state == "pending"
    assert book.step(130, [condition(60)]) == []
    (alarm,) = book.step(160, [condition(60)])
    assert (alarm.state, alarm.firing_at) == ("firing", 160)
    assert book.step(200, []) == [], "what flickers is one alarm"
    (alarm,) = book.step(160 + RESOLVE_S, [])
    assert (alarm.state, alarm.resolved_at) == ("resolved", 160 + RESOLVE_S)
    assert not book.open


def test_the_same_thing_said_often_is_one_alarm() -> None:
    book = AlarmBook()
    assert len(book.step(0, [condition(), condition(value=2.0)])) == 1
    assert book.step(1, [condition()] * 5) == []


def test_a_condition_that_does_not_last_never_fires() -> None:
    book = AlarmBook()
    book.step(0, [condition(60)])
    (alarm,) = book.step(50, [])
    assert (alarm.state, alarm.firing_at) == ("resolved", None)


def test_a_clock_that_goes_backwards_stands_still() -> None:
    book = AlarmBook()
    book.step(1000, [condition(60)])
    assert book.step(10, [condition(60)]) == []
    (alarm,) = book.step(1060, [condition(60)])
    assert alarm.state == "firing"


def test_acknowledged_by_somebody_and_only_while_open() -> None:
    book = AlarmBook()
    (alarm,) = book.step(0, [condition()])
    seen = book.acknowledge(alarm.id, "ann", 5)
    assert seen is not None
    assert (seen.acknowledged_by, seen.acknowledged_at) == ("ann", 5)
    assert book.acknowledge("nothing", "ann", 5) is None


def test_the_message_has_alertmanagers_shape() -> None:
    book = AlarmBook()
    alarms = book.step(0, [condition()])
    message = payload(alarms, "http://here")
    assert {"version", "groupKey", "status", "receiver", "groupLabels", "commonLabels", "commonAnnotations"} <= set(
        message
    )
    (alert,) = message["alerts"]
    assert alert["status"] == "firing"
    assert alert["labels"]["severity"] == "page"
    assert alert["startsAt"] == "1970-01-01T00:00:00Z"
    assert alert["fingerprint"] == alarms[0].id


class Receiver:
    """A webhook that answers with the statuses it is given, then 200; or hangs."""

    def __init__(self, statuses: list[int], hang: threading.Event | None = None) -> None:
        received: list[dict[str, object]] = []
        self.arrived = arrived = threading.Semaphore(0)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                if hang is not None:
                    hang.wait(30)
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.append(json.loads(body))
                arrived.release()
                self.send_response(statuses.pop(0) if statuses else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.received = received
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def test_a_webhook_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechpipe.monitor.sinks.PAUSE_S", 0.01)
    receiver = Receiver([500, 503])
    sink = WebhookSink(receiver.url)
    sink.send(AlarmBook().step(0, [condition()]))
    assert all(receiver.arrived.acquire(timeout=10) for _ in range(3))
    sink.close()
    receiver.server.shutdown()
    receiver.server.server_close()
    assert sink.sent == 1
    assert not sink.lost


def test_a_webhook_that_hangs_holds_up_nobody_and_is_counted() -> None:
    free = threading.Event()
    receiver = Receiver([], hang=free)
    sink = WebhookSink(receiver.url, timeout_s=0.2)
    for _ in range(200):  # more than it keeps; none of these waits
        sink.send(AlarmBook().step(0, [condition()]))
    assert sink.lost["queue_full"] > 0
    sink.close()
    free.set()
    receiver.server.shutdown()
    receiver.server.server_close()
