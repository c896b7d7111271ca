"""Every alarm is told once to every sink, whatever fails in between, and by one of several servers."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from speechpipe.config import Settings
from speechpipe.errors import UnknownName
from speechpipe.foundation.outgoing import Sender
from speechpipe.foundation.storage.leases import Lease
from speechpipe.foundation.storage.store import Store
from speechpipe.monitor.alarms import Alarm, Condition, step
from speechpipe.monitor.sinks import WebhookSink
from speechpipe.monitor.telling import CLAIM_S, MOST_AGE_S, Teller
from speechpipe.monitor.watch import BLAME_WAIT_S, Watcher
from speechpipe.serving.health.service import MonitoringService
from tests.databases import DATABASES, Database, mostly_sqlite, place_tables
from tests.foundation.storage.test_store import eventually
from tests.monitor.test_watch import OPTIONS, Sink, put, watched
from tests.records import SPEC, traffic


@pytest.fixture(params=DATABASES, ids=str)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    database: Database = request.param
    with database.ready(tmp_path) as url:
        yield url


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    found = Store(url)
    found.open()
    yield found
    found.close()


def broken(times: int, plain: Callable[..., Any], error: Exception) -> Callable[..., Any]:
    left = [times]

    def call(*arguments: Any, **named: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise error
        return plain(*arguments, **named)

    return call


BLAME = ["blame.stored", "blame.pin"]
LOCKED = OperationalError("INSERT", {}, Exception("database is locked"))


def said(sink: Sink) -> list[tuple[str, str]]:
    return [(alarm.condition.metric, alarm.state) for alarm in sink.alarms]


def ticked(watcher: Watcher, *times: float) -> None:
    for now in times:
        with contextlib.suppress(OperationalError, ZeroDivisionError, OSError):
            watcher.tick(now)


@pytest.mark.long
@pytest.mark.parametrize(
    "what",
    [f"archive.{name}" for name in ("save", "alarms", "release", "annotate", "changes", "commit")] + BLAME,
)
@pytest.mark.parametrize("error", [LOCKED, ZeroDivisionError("numerics")], ids=["store", "numerics"])
def test_whatever_fails_once_in_a_tick_no_alarm_is_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch, what: str, error: Exception
) -> None:
    sink = Sink()
    watcher = watched(store, sink)
    part, name = what.split(".")
    owner = getattr(watcher, part)
    monkeypatch.setattr(owner, name, broken(1, getattr(owner, name), error))
    put(store, traffic(600, start=1000, first=1000, null_share=0.15, seed=2))
    ticked(watcher, 1600, 1602, 1604, 1640)
    assert said(sink) == [("model.null_share", "firing")]
    (stored,) = watcher.archive.alarms()
    assert stored.state == "firing"
    put(store, traffic(3000, start=1640, first=1640, seed=3))
    ticked(watcher, 4640, 4800, 4802)
    assert said(sink) == [("model.null_share", "firing"), ("model.null_share", "resolved")]


@mostly_sqlite("url")
def test_an_alarm_is_told_although_blame_never_works_and_with_the_verdict_when_it_does(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Sink()
    watcher = watched(store, sink)
    plain = watcher.blame.stored
    monkeypatch.setattr(watcher.blame, "stored", broken(10**9, plain, ZeroDivisionError()))
    put(store, traffic(600, start=1000, first=1000, null_share=0.15, seed=2))
    ticked(watcher, 1600, 1600 + BLAME_WAIT_S)
    assert [(alarm.state, alarm.blame) for alarm in sink.alarms] == [("firing", "")]
    monkeypatch.setattr(watcher.blame, "stored", plain)
    put(store, traffic(10, start=1600, first=1600, null_share=0.15, seed=4))
    watcher.tick(1630)
    (alarm,) = watcher.archive.alarms()
    assert alarm.blame


def test_a_strange_record_does_not_end_the_watch(store: Store) -> None:
    sink = Sink()
    watcher = watched(store, sink)
    strange = traffic(1, start=1000, first=5000)[0]
    put(
        store,
        [type(strange)(**{**{f: getattr(strange, f) for f in strange.__slots__}, "measures": {"gate.length_s": "x"}})],
    )
    put(store, traffic(600, start=1000, first=1000, null_share=0.15, seed=2))
    watcher.tick(1600)
    assert said(sink) == [("model.null_share", "firing")]


class Peer:
    """A receiver on a raw socket: answers each request as it is told to, then with 200."""

    def __init__(self, answers: list[bytes | None]) -> None:
        self.bodies: list[bytes] = []
        self._answers = answers
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/hook"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(65536)
            head, _, body = data.partition(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            while len(body) < length:
                body += connection.recv(65536)
            answer = self._answers.pop(0) if self._answers else b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            if answer is None:  # hangs
                connection.settimeout(30)
                connection.recv(1)
                return
            if answer.startswith(b"HTTP/1.1 200"):
                self.bodies.append(body)
            connection.sendall(answer)

    def close(self) -> None:
        self._socket.close()


WRONG: list[bytes | None] = [
    b"\x00\xffgarbage\r\n\r\n",
    b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
    b"",
    None,
    b"HTTP/1.1 " + b"x" * 100_000,
    b"HTTP/1.1 302 There\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
]


@pytest.mark.long
def test_a_webhook_that_answers_nonsense_or_hangs_is_told_once_when_it_answers(tmp_path: Path) -> None:
    peer = Peer(list(WRONG))
    store = Store(place_tables(tmp_path / "a.db"))
    store.open()
    settings = Settings(state_dir=tmp_path, alarm_webhook=peer.url, signing_secret="s", external_url="http://me/")
    monitoring = MonitoringService(settings, store, store.append)
    (teller,) = [one for one in monitoring.watcher.tellers if one.sink.name == "webhook"]
    teller.sink = WebhookSink(peer.url, Sender(b"s", timeout_s=1.0), "http://me/")
    put(store, traffic(600, start=time.time() - 600, null_share=1.0))
    monitoring.start()
    try:
        now = time.time()
        alarm = step([], now, [Condition("limit", "asr.null_share", "asr", "page", "g", "reason")])
        monitoring.watcher.archive.save(alarm, ["log", "webhook"], now)
        eventually(lambda: any(alarm[0].alarm.id.encode() in body for body in peer.bodies), 120)
        time.sleep(3)  # nothing may come twice
    finally:
        monitoring.close()
        store.close()
        peer.close()
    mine = [body for body in peer.bodies if alarm[0].alarm.id.encode() in body]
    assert len(mine) == 1
    assert b'"externalURL": "http://me"' in mine[0]
    assert teller.counts["failed"] >= len(WRONG)
    assert teller.counts["lost"] == 0
    assert not any(status.ended for status in (task.status for task in monitoring.tasks))


def notify(archive: Any, now: float, *, sinks: Sequence[str] = ("test",), metric: str = "m") -> Alarm:
    (found,) = step([], now, [Condition("limit", metric, "s", "page", "g", "reason")])
    archive.save([found], list(sinks), now)
    return found.alarm


def test_what_was_told_but_could_not_be_marked_is_not_told_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = Sink()
    watcher = Watcher(SPEC, store, [sink], OPTIONS)
    notify(watcher.archive, 100.0)
    (teller,) = watcher.tellers
    monkeypatch.setattr(teller.outbox, "told", broken(3, teller.outbox.told, LOCKED))
    for now in (100.0, 101.0, 102.0, 103.0, 104.0, 104.0 + 2 * CLAIM_S):
        with contextlib.suppress(OperationalError):
            teller.tell(now)
    assert len(sink.alarms) == 1


@mostly_sqlite("url")
def test_a_sink_that_fails_on_one_alarm_is_told_of_the_others_and_the_loss_is_counted(store: Store) -> None:
    class Picky(Sink):
        def send(self, alarms: Sequence[Alarm]) -> None:
            if any(alarm.condition.metric == "bad" for alarm in alarms):
                raise RuntimeError("unforeseen")
            super().send(alarms)

    sink = Picky()
    watcher = Watcher(SPEC, store, [sink], OPTIONS)
    for metric in ("a", "bad", "b"):
        notify(watcher.archive, 100.0, metric=metric)
    (teller,) = watcher.tellers
    now = 100.0
    while now < 100.0 + 2 * MOST_AGE_S:
        with contextlib.suppress(RuntimeError):
            teller.tell(now)
        now += 10.0 if now < 500 else 40_000.0
    assert sorted(metric for metric, _ in said(sink)) == ["a", "b"]
    assert teller.counts["lost"] == 1
    assert teller.counts["failed"] > 3


@mostly_sqlite("url")
def test_a_resolution_is_told_after_its_beginning_and_both_once(store: Store) -> None:
    sink = Sink()
    watcher = Watcher(SPEC, store, [sink], OPTIONS)
    notify(watcher.archive, 100.0)
    (teller,) = watcher.tellers
    plain = sink.send
    sink.send = broken(1, plain, OSError("refused"))  # type: ignore[method-assign]
    with pytest.raises(OSError, match="refused"):
        teller.tell(100.0)
    for now in (110.0, 300.0):
        watcher.archive.save(step(watcher.archive.alarms(), now, []), ["test"], now)
    assert watcher.archive.alarms() == []
    for now in (310.0, 320.0, 330.0):
        teller.tell(now)
    assert said(sink) == [("m", "firing"), ("m", "resolved")]
    assert sink.alarms[0].resolved_at is None


def test_two_servers_on_one_store_tell_once(url: str) -> None:
    stores = [Store(url), Store(url)]
    sinks = [Sink(), Sink()]
    watchers = [Watcher(SPEC, store, [sink], OPTIONS) for store, sink in zip(stores, sinks, strict=True)]
    for number in range(40):
        notify(watchers[0].archive, 100.0, metric=f"m{number}")
    start = threading.Barrier(2)

    def tell(watcher: Watcher) -> None:
        start.wait()
        for _ in range(20):
            with contextlib.suppress(OperationalError):
                watcher.tellers[0].tell(100.0)

    threads = [threading.Thread(target=tell, args=(watcher,)) for watcher in watchers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = [alarm.condition.metric for sink in sinks for alarm in sink.alarms]
    assert sorted(told) == sorted(f"m{number}" for number in range(40))
    for store in stores:
        store.close()


def test_an_acknowledgement_made_elsewhere_survives(url: str) -> None:
    one, two = Store(url), Store(url)
    one.open()
    sink = Sink()
    watcher = watched(one, sink)
    put(one, traffic(600, start=1000, first=1000, null_share=0.15, seed=2))
    watcher.tick(1600)
    other = Watcher(SPEC, two, [], OPTIONS)
    other.tick(1602)
    (alarm,) = [alarm for alarm in other.archive.alarms() if alarm.state == "firing"]
    (found,) = other.archive.acknowledge(alarm.id, "ann", 1603)
    assert found is not None
    assert found.acknowledged_by == "ann"
    put(one, traffic(3000, start=1600, first=1600, seed=3))
    for now in (4600, 4800, 5000):
        watcher.tick(now)
    (resolved,) = [alarm for alarm in watcher.archive.alarms(0) if alarm.firing_at is not None]
    assert (resolved.state, resolved.acknowledged_by, resolved.acknowledged_at) == ("resolved", "ann", 1603)
    assert watcher.archive.acknowledge(alarm.id, "bob", 5001) == []
    one.close()
    two.close()


def test_two_deciders_open_an_alarm_once(url: str) -> None:
    stores = [Store(url), Store(url)]
    watchers = [Watcher(SPEC, store, [Sink()], OPTIONS) for store in stores]
    condition = Condition("limit", "m", "s", "page", "g", "reason")
    decided = [(watcher, step(watcher.archive.alarms(), 100.0 + n, [condition])) for n, watcher in enumerate(watchers)]
    decided[0][0].archive.save(decided[0][1], ["test"], 100.0)
    with pytest.raises(Exception, match="opened one of these"):
        decided[1][0].archive.save(decided[1][1], ["test"], 100.0)
    assert len(watchers[0].archive.alarms()) == 1
    for store in stores:
        store.close()


def test_one_holds_a_lease_until_it_stops_or_dies_and_wrong_clocks_do_not_keep_it(store: Store) -> None:
    one, two = (Lease(lambda: store.engine, "watch", 15.0, owner) for owner in ("one", "two"))
    assert one.hold(100.0)
    assert not two.hold(101.0)
    assert one.hold(110.0)
    assert not two.hold(120.0)
    assert two.hold(126.0)
    assert not one.hold(126.0)
    two.release()
    assert one.hold(127.0)
    assert one.hold(10_000_000.0), "its clock jumps"
    assert two.hold(130.0)


def test_only_one_of_two_servers_follows_and_the_other_takes_over(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    stores = [Store(url), Store(url)]
    settings = Settings(state_dir=tmp_path)
    servers = [MonitoringService(settings, store, store.append, lambda: now[0]) for store in stores]
    stores[0].open()
    ticks = [0, 0]
    for index, server in enumerate(servers):
        plain = server.watcher.tick

        def counted(at: float, *, tell: bool, index: int = index, plain: Any = plain) -> Any:
            ticks[index] += 1
            return plain(at, tell=tell)

        monkeypatch.setattr(server.watcher, "tick", counted)
    for _ in range(10):
        now[0] += 2.0
        for server in servers:
            server.tick()
    assert ticks == [10, 0]
    now[0] += 60.0
    servers[1].tick()
    servers[0].tick()
    assert ticks == [10, 1]
    servers[1].close()
    servers[0].tick()
    assert ticks == [11, 1]
    with pytest.raises(UnknownName):
        servers[0].operations.acknowledge("nothing", "ann")
    for store in stores:
        store.close()


def test_the_teller_needs_no_watcher(store: Store) -> None:
    """An alarm that one server has stored and not told is told by another that only starts."""
    watcher = Watcher(SPEC, store, [], OPTIONS)
    notify(watcher.archive, 100.0)
    sink = Sink()
    Teller(lambda: store.engine, sink, "another").tell(200.0)
    assert said(sink) == [("m", "firing")]
