"""What waits in a session's inbox: its order, its age, its size."""

import time

import pytest

from speechpipe.serving.live import Finish, Flush
from speechpipe.serving.live.inbox import PIECE_BYTES, Inbox


def at(monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: now)


def test_audio_that_is_worked_on_too_slowly_becomes_later_and_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second of audio takes 0.8 s of work: after ten such steps the oldest has waited three seconds."""
    box, now = Inbox(), 0.0
    late = []
    for step in range(10):
        for tenth in range(8):
            at(monkeypatch, now + tenth / 10)
            box.put_audio(bytes(3200))
        now += 0.8
        at(monkeypatch, now)
        late.append(box.waiting_s(now))
        assert box.take(16_000) == bytes(16_000), step
    assert late == sorted(late)
    assert box.waiting_s(now) == pytest.approx(3.0, abs=0.11)
    assert box.buffered_bytes == 10 * (8 * 3200 - 16_000)


def test_what_is_left_of_a_piece_has_waited_since_the_piece_came(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Inbox()
    at(monkeypatch, 10.0)
    box.put_audio(bytes(8000))
    at(monkeypatch, 14.0)
    box.take(100)
    assert box.waiting_s(15.0) == pytest.approx(5.0)
    box.take(8000)
    assert box.waiting_s(15.0) == 0.0


def test_commands_keep_their_place_between_the_audio() -> None:
    box = Inbox()
    box.put_audio(b"ab")
    box.put(Flush())
    box.put_audio(b"cd")
    assert [box.take(100) for _ in range(4)] == [b"ab", Flush(), b"cd", None]


def test_nothing_is_taken_after_the_end_and_the_end_is_taken_once() -> None:
    box = Inbox()
    assert box.put(Finish())
    assert not box.put(Finish("client_gone"))
    assert not box.put_audio(b"late")
    assert (box.received_bytes, len(box)) == (0, 1)


def test_single_bytes_and_huge_pieces_make_few_items_of_bounded_size() -> None:
    box = Inbox()
    for _ in range(10_000):
        box.put_audio(b"x")
    assert len(box) <= 10
    huge = Inbox()
    huge.put_audio(bytes(range(256)) * 4096)
    assert len(huge) == 2**20 // PIECE_BYTES
    out = b""
    while isinstance(piece := huge.take(1000), bytes):
        out += piece
    assert out == bytes(range(256)) * 4096


def test_audio_is_dropped_without_the_commands_behind_it() -> None:
    box = Inbox()
    box.put_audio(bytes(5000))
    box.put(Finish())
    assert box.drop_audio() == 5000
    assert (box.take(1), box.buffered_bytes) == (Finish(), 0)
