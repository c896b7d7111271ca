"""A command waits for a container's decoder, and not for ever."""

from typing import Any

import pytest

from speechpipe.serving.live import drain
from speechpipe.serving.live.drain import Drain
from speechpipe.types import Notice


class Decoder:
    """As `WireDecoder` where it is drained."""

    def __init__(self) -> None:
        self.asked = 0
        self.drained = False
        self.has_samples = False
        self.held_bytes = 70
        self.notices: list[Notice] = []

    def drain(self) -> None:
        self.asked += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("speechpipe.serving.live.drain.time.monotonic", lambda: now[0])
    return now


def test_it_asks_once_for_what_was_fed_and_is_done_when_all_is_taken(clock: list[float]) -> None:
    decoder: Any = Decoder()
    waiting = Drain(decoder)
    waiting.feeding()
    assert not waiting.done()
    assert not waiting.done()
    assert decoder.asked == 1
    decoder.drained = True
    assert waiting.settled
    assert waiting.done()
    waiting.feeding()
    decoder.drained = False
    assert not waiting.done()
    assert decoder.asked == 2
    assert not decoder.notices


def test_a_decoder_that_gives_nothing_is_not_waited_for_and_that_is_said_once(clock: list[float]) -> None:
    decoder: Any = Decoder()
    waiting = Drain(decoder)
    waiting.feeding()
    assert not waiting.done()
    decoder.has_samples = True
    clock[0] += 3 * drain.DRAIN_S
    assert not waiting.done(), "it gives samples, which nobody took yet"
    decoder.has_samples = False
    clock[0] += drain.DRAIN_S / 2
    assert not waiting.done()
    clock[0] += drain.DRAIN_S
    assert waiting.settled
    assert waiting.done()
    assert waiting.done()
    assert [notice.code for notice in decoder.notices] == ["audio_not_awaited"]
    assert "70 bytes" in decoder.notices[0].message
