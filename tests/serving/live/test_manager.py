"""Who may come back, what is forgotten, what is counted: a streams without a network."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speechpipe.app import compose
from speechpipe.cascade.audio.wire_format import WireFormat
from speechpipe.config import Settings
from speechpipe.errors import InvalidParameter, Overloaded
from speechpipe.serving.live import Ended, Event, Final, Finish, Flush, LiveRequest, Message, Paused
from speechpipe.serving.live.manager import StreamManager
from speechpipe.serving.live.outbox import Goodbye
from speechpipe.serving.live.stream import LiveStream
from speechpipe.serving.service import Service
from tests.live_client import CLIPS, pcm, spoken
from tests.patience import PATIENCE_S

RESUME_S = 0.5
SPEECH = pcm(spoken(CLIPS[0], gap_s=0.0))


class Plain:
    """A dialect that says what happened by name."""

    def render(self, event: Event) -> list[Message]:
        known = isinstance(event, Final | Ended | Paused)
        return [{"event": type(event).__name__}] if known else []


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = Settings(
        bundle="scripted",
        workers=1,
        live_workers=1,
        live_resume_s=RESUME_S,
        live_idle_timeout_s=30,
        live_load_limit=1000,
        live_max_sessions=5,
        live_max_speed=0,
        state_dir=Path(tmp_path_factory.mktemp("streams")),
    )
    with compose(settings, live=True) as running:
        yield running


@contextmanager
def managing(service: Service, **changes: Any) -> Iterator[StreamManager]:
    """A stream manager of the service with other settings."""
    running = StreamManager(replace(service, settings=service.settings.model_copy(update=changes)))
    running.start()
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def streams(service: Service) -> Iterator[StreamManager]:
    with managing(service) as running:
        yield running


def opened(streams: StreamManager, service: Service, **changes: Any) -> LiveStream:
    asked: dict[str, Any] = {
        "bundle": service.engine.champion,
        "wire": WireFormat("linear16", 16_000),
        "channel": "listen",
    }
    return streams.open(LiveRequest(**asked | {"tenant": "t"} | changes), Plain())


def without_a_thread(streams: StreamManager, service: Service, **changes: Any) -> LiveStream:
    """Return a stream that nothing works on."""
    asked: dict[str, Any] = {
        "bundle": service.engine.champion,
        "wire": WireFormat("linear16", 16_000),
        "channel": "listen",
    }
    request = LiveRequest(**asked | {"tenant": "t"} | changes)
    return LiveStream(service, request, Plain(), lambda _: None, streams.load, streams.budget)


def forgotten(streams: StreamManager, stream: LiveStream) -> bool:
    try:
        streams.resume(stream.token, "t")
    except InvalidParameter as error:
        return error.cause == "resume_unknown"
    return False


def until(condition: Callable[[], bool], limit_s: float = PATIENCE_S) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_the_late_end_of_the_old_connection_does_not_end_a_resumed_session(
    streams: StreamManager, service: Service
) -> None:
    stream = opened(streams, service)
    old = streams.attach(stream, lambda: None)
    assert streams.resume(stream.token, "t", "listen") is stream
    stream.outbox.detach(old)  # seen between finding the stream and reading it
    streams.leave(stream)
    new = streams.attach(stream, lambda: None, 0)
    end = time.monotonic() + 3 * RESUME_S
    while time.monotonic() < end:
        stream.offer(SPEECH[:3200])
        time.sleep(0.05)
    assert not stream.ended
    assert streams.counts["abandoned"] == 0
    stream.command(Finish())
    until(lambda: stream.ended)
    stream.outbox.detach(new)


def test_the_last_messages_can_be_had_again_until_the_client_has_answered_the_close(
    streams: StreamManager, service: Service
) -> None:
    stream = opened(streams, service)
    reader = streams.attach(stream, lambda: None)
    stream.offer(SPEECH)
    stream.command(Finish())
    until(lambda: stream.ended)
    first = stream.outbox.take(reader)  # and then the connection breaks
    stream.outbox.detach(reader)
    streams.leave(stream)
    again = streams.attach(streams.resume(stream.token, "t"), lambda: None, 0)
    assert stream.outbox.take(again) == first
    until(lambda: stream.outbox.take(again) == Goodbye(1000, "ok"))  # it is put a moment after the stream has ended
    stream.outbox.confirm(again)
    stream.outbox.detach(again)
    streams.leave(stream)
    with pytest.raises(InvalidParameter):
        streams.resume(stream.token, "t")


def test_attempts_to_resume_that_are_refused_take_no_place(streams: StreamManager, service: Service) -> None:
    """Wrong interface, wrong tenant, a number that was never said: as often as there are places."""
    for _ in range(5):
        stream = opened(streams, service)
        stream.outbox.detach(streams.attach(stream, lambda: None))
        for tenant, channel, after in (("t", "realtime", 0), ("other", "listen", 0), ("t", "listen", 99)):
            with pytest.raises(InvalidParameter):
                streams.resume(stream.token, tenant, channel, after)
    with pytest.raises(Overloaded):
        opened(streams, service)
    until(lambda: len(streams) == 0)
    opened(streams, service)
    assert streams.counts["resumed"] == 0


def test_an_abandoned_session_is_counted_once_and_forgotten(streams: StreamManager, service: Service) -> None:
    stream = opened(streams, service)
    reader = streams.attach(stream, lambda: None)
    stream.offer(SPEECH)
    before = time.monotonic()
    stream.channels.collect = lambda: time.sleep(0.01)  # type: ignore[method-assign]  # its last final takes long
    stream.outbox.detach(reader)
    until(lambda: stream.ending)
    until(lambda: time.monotonic() > before + 3 * RESUME_S)
    assert streams.counts["abandoned"] == 1
    assert not stream.command(Finish())
    del stream.channels.collect
    until(lambda: stream.ended)
    until(lambda: forgotten(streams, stream))
    assert streams.counts["abandoned"] == 1


def test_a_session_that_is_over_is_forgotten_though_its_reader_never_leaves(service: Service) -> None:
    with managing(service, live_send_timeout_s=0.2) as streams:
        stream = opened(streams, service)
        streams.attach(stream, lambda: None)
        stream.command(Finish())
        until(lambda: forgotten(streams, stream))


def test_the_tick_goes_on_when_a_stream_breaks_it(
    streams: StreamManager, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = opened(streams, service), opened(streams, service)
    streams.attach(bad, lambda: None)
    good.outbox.detach(streams.attach(good, lambda: None))

    def unforeseen(_: float) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(bad, "waits", unforeseen)
    until(lambda: good.ending)
    monkeypatch.undo()
    until(lambda: bad.ended)
    assert streams.counts["broken"] >= 1
    goodbye = [bad.outbox.take(2), bad.outbox.take(1), bad.outbox.take(1)][-1]
    assert isinstance(goodbye, Goodbye)
    assert goodbye.code == 1011
    (status,) = [task.status for task in streams.tasks if task.name == "live-tick"]
    assert status.alive


def test_the_tick_goes_on_after_what_nobody_foresaw(
    streams: StreamManager, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticker = next(task for task in streams.tasks if task.name == "live-tick")

    def unforeseen(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(streams.load, "update", unforeseen)
    until(lambda: ticker.status.failing)
    monkeypatch.undo()
    until(lambda: not ticker.status.failing)
    assert ticker.status.alive
    assert ticker in list(service.tasks)


def test_a_stream_whose_end_breaks_lets_its_client_go(
    streams: StreamManager, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = opened(streams, service)
    reader = streams.attach(stream, lambda: None)

    def unforeseen() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(stream.channels, "conclude", unforeseen)
    stream.command(Finish())
    until(lambda: stream.outbox.drained)
    goodbye = stream.outbox.take(reader)
    assert isinstance(goodbye, Goodbye)
    assert goodbye.code == 1011


def test_a_new_session_whose_client_never_comes_ends(
    streams: StreamManager, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speechpipe.serving.live.manager.ATTACH_S", 0.2)
    opened(streams, service)
    until(lambda: len(streams) == 0)


def test_audio_that_stops_gets_its_final_and_later_audio_is_new_speech(
    streams: StreamManager, service: Service
) -> None:
    stream = opened(streams, service)
    reader = streams.attach(stream, lambda: None)
    for start in range(0, len(SPEECH), 3200):
        stream.offer(SPEECH[start : start + 3200])
    said: list[str] = []

    def take() -> list[str]:
        taken = stream.outbox.take(reader)
        said.extend(taken if isinstance(taken, list) else [])
        return said

    until(lambda: any('"Final"' in text for text in take()))
    assert any('"Paused"' in text for text in take())
    finals = stream.channels.finals
    assert stream.channels.audio_s == pytest.approx(len(SPEECH) / 32_000, abs=0.01), "the audio clock stands still"
    stream.offer(SPEECH)
    stream.command(Finish())
    until(lambda: stream.ended)
    assert stream.channels.finals > finals
    accounting = stream.channels.accounting[0]
    assert accounting.received == 2 * len(SPEECH) // 2
    assert accounting.pending == 0


def test_a_dropped_connection_is_no_pause(service: Service) -> None:
    with managing(service, live_resume_s=30.0) as streams:
        stream = opened(streams, service)
        reader = streams.attach(stream, lambda: None)
        stream.offer(SPEECH[: len(SPEECH) // 2])
        until(lambda: stream.channels.speaking and stream.idle)  # else two threads would work the audio off below
        stream.outbox.detach(reader)
        end = time.monotonic() + 2 * service.settings.live_pause_s
        while time.monotonic() < end:
            time.sleep(0.05)
            stream.step()
        assert stream.channels.speaking, "the client may go on where it was"


def test_bytes_and_items_are_bounded_whatever_was_announced(streams: StreamManager, service: Service) -> None:
    wide = without_a_thread(streams, service, wire=WireFormat("linear16", 48_000, 8))
    while wide.has_room:
        wide.offer(bytes(64 * 1024))
    assert wide.buffered_s * 48_000 * 8 * 2 <= 2**20 + 64 * 1024
    chatty, commands = without_a_thread(streams, service), 0
    while chatty.has_room:
        chatty.keep_alive()
        chatty.command(Flush())
        commands += 1
        assert commands < 10**5


def test_when_all_hold_too_much_only_those_who_hold_much_must_wait(streams: StreamManager, service: Service) -> None:
    large, small = (without_a_thread(streams, service) for _ in range(2))
    large.offer(bytes(100 * 1024))
    small.offer(np.zeros(1000, np.int16).tobytes())
    holder = streams.budget.holder()
    holder.set(streams.budget.limit + 10**6)
    assert not large.has_room
    assert small.has_room
    holder.set(0)
    assert large.has_room
