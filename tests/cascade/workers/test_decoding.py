"""The decoder of a worker, on this thread: what is decoded together, alone, in vain, and what is counted."""

import os
from collections.abc import Callable, Generator, Sequence

import numpy as np
import pytest

from speechpipe.cascade.asr import BufferedStream, DecodeOptions, Piece, Recognizer
from speechpipe.cascade.asr.scripted import ScriptedRecognizer
from speechpipe.cascade.workers import RecognizerSpec
from speechpipe.cascade.workers.decoding import LOOK_S, Decoder
from speechpipe.cascade.workers.idle import SPECULATE_AFTER
from speechpipe.cascade.workers.inflight import InFlight, inflight_descriptor
from speechpipe.cascade.workers.messages import (
    Feed,
    Final,
    Finish,
    Open,
    Opened,
    Partial,
    Reply,
    RequestPartial,
    Step,
    Together,
)
from speechpipe.types import NullCause, Samples, Transcript

SPEC = RecognizerSpec("scripted")
WHOLE = DecodeOptions(offline=True)


def audio(seconds: float = 1.0, level: float = 0.1, seed: int = 0) -> Samples:
    noise = np.random.default_rng(seed).uniform(-level, level, round(seconds * 16_000)).astype(np.float32)
    noise[0] = level
    return noise


def complete(number: int, samples: Samples, options: DecodeOptions = WHOLE) -> tuple[Step, ...]:
    return (Open(number, SPEC, options), Feed(number, samples), Finish(number))


class Bench:
    """A decoder with its replies."""

    def __init__(self, recognizer: Recognizer) -> None:
        descriptor = inflight_descriptor()
        self.inflight = InFlight(descriptor)
        os.close(descriptor)
        self.replies: list[Reply] = []
        self.decoding: list[tuple[int, ...]] = []  # what was in progress at each reply
        self.decoder = Decoder(lambda _: recognizer, self.inflight, self.take, lambda: 0.0)

    def take(self, reply: Reply) -> None:
        self.replies.append(reply)
        self.decoding.append(self.inflight.get())

    def run(self, *requests: Step | Together | RequestPartial) -> "Bench":
        for request in requests:
            self.decoder.take(request)
        while self.decoder.work():
            pass
        return self

    @property
    def finals(self) -> dict[int, Final]:
        return {reply.stream: reply for reply in self.replies if isinstance(reply, Final)}

    @property
    def partials(self) -> list[Partial]:
        return [reply for reply in self.replies if isinstance(reply, Partial)]

    def together(self) -> dict[int, float]:
        return {number: final.transcript.facts["together"] for number, final in self.finals.items()}


def test_complete_segments_that_arrive_together_are_decoded_together_with_the_texts_of_single_ones() -> None:
    alone = Bench(ScriptedRecognizer())
    batch = Bench(ScriptedRecognizer(batch_s=20))
    for number in (1, 2, 3):
        alone.run(*complete(number, audio(seed=number)))
    steps = tuple(step for number in (1, 2, 3) for step in complete(number, audio(seed=number)))
    batch.run(Together(steps))
    assert batch.together() == {1: 3, 2: 3, 3: 3}
    for number, final in batch.finals.items():
        assert final.transcript.text == alone.finals[number].transcript.text
        assert final.transcript.words == alone.finals[number].transcript.words
    assert next(reply for reply in batch.replies if isinstance(reply, Opened)) == Opened(1, True, 20.0)
    assert batch.decoding[-3:] == [(1, 2, 3)] * 3
    assert batch.inflight.get() == ()


def test_a_batch_has_a_limit_of_seconds_and_begins_when_it_is_full() -> None:
    bench = Bench(ScriptedRecognizer(batch_s=2.5))
    steps = tuple(step for number in (1, 2, 3, 4) for step in complete(number, audio(seed=number)))
    bench.run(*steps)
    assert bench.together() == {1: 2, 2: 2, 3: 2, 4: 2}
    long = Bench(ScriptedRecognizer(batch_s=2.5)).run(*complete(1, audio(4.0)), *complete(2, audio()))
    assert long.together() == {1: 1, 2: 1}, "a segment longer than the limit is decoded alone"


def test_live_segments_and_other_recognizers_are_decoded_one_by_one() -> None:
    live = DecodeOptions()
    bench = Bench(ScriptedRecognizer(batch_s=20)).run(*complete(1, audio(), live), *complete(2, audio(), live))
    assert [final.transcript.facts for final in bench.finals.values()] == [{}, {}]


def test_of_segments_that_raise_together_only_the_guilty_one_fails() -> None:
    bench = Bench(ScriptedRecognizer(batch_s=20, fail_above_level=0.5))
    steps = [*complete(1, audio(seed=1)), *complete(2, audio(level=0.9)), *complete(3, audio(seed=3))]
    bench.run(Together(tuple(steps)))
    assert bench.finals[2].transcript.null_cause is NullCause.ERROR
    assert "scripted failure" in bench.finals[2].transcript.detail
    assert bench.finals[1].transcript.text
    assert bench.finals[3].transcript.text
    assert (bench.finals[1].transcript.facts, bench.finals[3].transcript.facts) == ({"together": 1},) * 2


class Forgetful(ScriptedRecognizer):
    """Leaves one of several pieces out."""

    def transcribe(self, pieces: Sequence[Piece]) -> list[Transcript]:
        found = super().transcribe(pieces)
        return found[:1] if len(pieces) > 1 else found


def test_a_recognizer_that_leaves_a_piece_out_is_asked_for_each_alone() -> None:
    bench = Bench(Forgetful(batch_s=20)).run(*complete(1, audio(seed=1)), *complete(2, audio(seed=2)))
    assert bench.together() == {1: 1, 2: 1}


def test_a_cancelled_segment_leaves_its_batch() -> None:
    bench = Bench(ScriptedRecognizer(batch_s=20))
    for step in (*complete(1, audio(seed=1)), *complete(2, audio(seed=2))):
        bench.decoder.take(step)
    for _ in range(6):
        bench.decoder.work()
    bench.decoder.cancel(1)
    bench.run()
    assert bench.together() == {2: 1}


class Metered(ScriptedRecognizer):
    """Uses a second of CPU time, on the test's clock, for each decode, and a tenth for each opened stream."""

    def __init__(self, cpu: list[float], batch_s: float = 0.0) -> None:
        super().__init__(streaming=False, batch_s=batch_s)
        self.cpu = cpu

    def work(self, samples: Samples) -> None:
        self.cpu[0] += 1.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The CPU clock of the process, moved by `Metered`."""
    now = [0.0]
    monkeypatch.setattr("time.process_time", lambda: now[0])
    return now


def test_the_cpu_time_of_a_batch_is_shared_by_length(clock: list[float]) -> None:
    bench = Bench(Metered(clock, batch_s=20)).run(*complete(1, audio(1.0)), *complete(2, audio(3.0)))
    assert bench.finals[1].effort.cpu_s == pytest.approx(0.5)
    assert bench.finals[2].effort.cpu_s == pytest.approx(1.5)


def pause(number: int, samples: int = SPECULATE_AFTER) -> Feed:
    return Feed(number, np.zeros(samples, np.float32), endpoint_near=True)


def test_what_was_decoded_in_the_pause_is_the_final(clock: list[float]) -> None:
    bench = Bench(Metered(clock)).run(Open(1, SPEC, DecodeOptions()), Feed(1, audio()), pause(1))
    (partial,) = bench.partials
    assert not partial.requested
    assert clock == [1.0]
    bench.run(pause(1, 500), Finish(1))
    final = bench.finals[1]
    assert clock == [1.0], "nothing is left to decode at the end"
    assert final.transcript.text == partial.text
    assert (final.effort.speculations, final.effort.speculated) == (1, True)
    assert (final.effort.cpu_s, final.effort.spare_cpu_s) == (1.0, 0.0)


def test_a_decode_in_vain_is_counted_as_spare(clock: list[float]) -> None:
    bench = Bench(Metered(clock)).run(Open(1, SPEC, DecodeOptions()), Feed(1, audio()), pause(1))
    bench.run(Feed(1, audio(seed=1)), Finish(1))
    final = bench.finals[1]
    assert (final.effort.speculations, final.effort.speculated) == (1, False)
    assert (final.effort.cpu_s, final.effort.spare_cpu_s, final.spare_cpu_s) == (2.0, 1.0, 1.0)
    assert final.transcript.text.startswith(bench.partials[0].text.split()[0])


def test_a_partial_result_is_made_when_something_new_was_said_and_its_cpu_time_is_spare(clock: list[float]) -> None:
    bench = Bench(Metered(clock)).run(RequestPartial(1), Open(1, SPEC, DecodeOptions()), Feed(1, audio()))
    assert [(one.samples, one.requested, one.spare_cpu_s) for one in bench.partials] == [(16_000, True, 1.0)]
    bench.run(RequestPartial(1))
    assert len(bench.partials) == 1, "nothing new was said"
    bench.run(Finish(1))
    assert len(bench.partials) == 1
    assert bench.finals[1].effort.spare_cpu_s == 1.0
    assert bench.decoder.wait_s is None


def test_two_decodes_in_a_row_make_text_stable() -> None:
    bench = Bench(ScriptedRecognizer(streaming=False))
    bench.run(RequestPartial(1), Open(1, SPEC, DecodeOptions()), Feed(1, audio()), pause(1))
    first, *_ = bench.partials
    assert first.stable == 0
    bench.run(Feed(1, audio(seed=1)), pause(1))
    last = bench.partials[-1]
    assert last.text[: last.stable].startswith(first.text.split()[0])


class Growing:
    """A stream whose text only grows, and which says how much of it is whole words."""

    stable = 0

    def __init__(self) -> None:
        self._seconds = 0

    def open(self, options: DecodeOptions) -> "Growing":
        del options
        return Growing()

    def feed(self, samples: Samples) -> None:
        self._seconds += len(samples) // 16_000

    def partial(self) -> str:
        self.stable = 6 * self._seconds - 1
        return "again " * self._seconds + "ag"

    def finish(self) -> Transcript:
        return Transcript("again " * self._seconds + "again")

    def context(self) -> str:
        return ""

    def cancel(self) -> None:
        pass


def test_a_stream_whose_text_grows_says_what_is_stable_at_once() -> None:
    bench = Bench(Growing()).run(RequestPartial(1), Open(1, SPEC, DecodeOptions()), Feed(1, audio()))
    (only,) = bench.partials
    assert only.text[: only.stable] == "again"


class Library:
    """What the threads of a recognizer's library do, as a test decides."""

    def __init__(self) -> None:
        self.done = False
        self.error = ""
        self.given_up = 0
        self.during: Callable[[], None] = lambda: None  # called in the middle of a decode


class SlowStream(BufferedStream):
    """Its partial result says how many seconds it covers, once the library is done."""

    def __init__(self, library: Library) -> None:
        super().__init__()
        self._library = library

    def partial_in_steps(self) -> Generator[None, None, str]:
        text = self._said()
        try:
            while not self._library.done:
                yield
        except GeneratorExit:
            self._library.given_up += 1
            raise
        if self._library.error:
            raise RuntimeError(self._library.error)
        return text

    def decode_looking(self, look: Callable[[], object]) -> Transcript:
        self._library.during()
        look()
        return self.decode(self.samples())

    def decode(self, samples: Samples) -> Transcript:
        return Transcript(f"all of {len(samples) / 16_000:.2f} s")

    def _said(self) -> str:
        return f"{len(self.samples()) / 16_000:.2f} s"


class Slow:
    def __init__(self, library: Library) -> None:
        self._library = library

    def open(self, options: DecodeOptions) -> SlowStream:
        del options
        return SlowStream(self._library)


@pytest.fixture
def library() -> Library:
    return Library()


@pytest.fixture
def slow(library: Library) -> Bench:
    """A stream whose partial result is underway."""
    bench = Bench(Slow(library)).run(RequestPartial(1), Open(1, SPEC, DecodeOptions()), Feed(1, audio()))
    assert bench.partials == []
    assert bench.inflight.get() == (1,)
    assert bench.decoder.wait_s == LOOK_S
    return bench


def test_a_partial_result_comes_when_the_library_is_done_and_covers_what_was_there_when_it_began(
    slow: Bench, library: Library
) -> None:
    slow.run(Feed(1, audio(0.1)))
    assert slow.partials == []
    library.done = True
    slow.run()
    assert [(one.text, one.samples, one.requested) for one in slow.partials] == [("1.00 s", 16_000, True)]
    assert slow.inflight.get() == ()


def test_the_end_of_a_segment_does_not_wait_for_a_partial_result(slow: Bench, library: Library) -> None:
    slow.run(pause(1))
    assert [one.text for one in slow.partials] == ["all of 1.08 s"]
    library.done = True
    slow.run()
    assert len(slow.partials) == 1, "what was underway knows less"
    slow.run(Finish(1))
    assert slow.finals[1].effort.speculated
    assert slow.finals[1].transcript.text == "all of 1.08 s"


def test_a_partial_result_that_comes_while_a_pause_is_decoded_is_sent_at_once(slow: Bench, library: Library) -> None:
    library.during = lambda: setattr(library, "done", True)
    slow.run(pause(1))
    assert [one.text for one in slow.partials] == ["1.00 s", "all of 1.08 s"]
    assert slow.decoding[-2:] == [(1,), (1,)]
    assert slow.inflight.get() == ()


def test_other_streams_do_not_wait_for_a_partial_result(slow: Bench) -> None:
    slow.run(Open(2, SPEC, DecodeOptions()), Feed(2, audio(0.5)), Finish(2))
    assert slow.finals[2].transcript.text == "all of 0.50 s"
    assert slow.decoding[-1] == (2, 1), "a crash may be the fault of either"
    assert slow.inflight.get() == (1,)


@pytest.mark.parametrize("how", ["finish", "cancel"])
def test_what_is_underway_of_a_stream_that_ends_is_given_up(slow: Bench, library: Library, how: str) -> None:
    if how == "finish":
        slow.run(Finish(1))
        assert slow.finals[1].transcript.text == "all of 1.00 s"
    else:
        slow.decoder.cancel(1)
    assert library.given_up == 1
    assert slow.decoder.wait_s is None
    slow.run(*complete(2, audio()))
    assert slow.finals[2].transcript.text == "all of 1.00 s"


def test_a_partial_result_that_fails_underway_is_the_segments_failure(slow: Bench, library: Library) -> None:
    library.done, library.error = True, "out of memory"
    slow.run()
    assert [one.text for one in slow.partials] == [""]
    slow.run(Finish(1))
    assert slow.finals[1].transcript.null_cause is NullCause.ERROR
    assert "out of memory" in slow.finals[1].transcript.detail


def test_the_cpu_time_of_two_things_at_once_is_counted_once(clock: list[float], library: Library) -> None:
    bench = Bench(Slow(library)).run(RequestPartial(1), Open(1, SPEC, DecodeOptions()), Feed(1, audio()))
    clock[0] += 3.0  # by the library
    bench.run(Open(2, SPEC, DecodeOptions()), Feed(2, audio()), Finish(2))
    clock[0] += 1.0
    library.done = True
    bench.run()
    bench.run(Finish(1))
    assert sum(final.effort.cpu_s for final in bench.finals.values()) == clock[0]
    assert bench.finals[1].effort.spare_cpu_s == bench.partials[-1].spare_cpu_s == 4.0


def test_the_cpu_time_of_a_pause_and_of_what_came_meanwhile_is_counted_once(
    clock: list[float], library: Library
) -> None:
    bench = Bench(Slow(library)).run(RequestPartial(1), Open(1, SPEC, DecodeOptions()), Feed(1, audio()))

    def during() -> None:
        clock[0] += 2.0
        library.done = True

    library.during = during
    clock[0] += 1.0
    bench.run(pause(1)).run(Finish(1))
    assert bench.finals[1].effort.cpu_s == clock[0] == 3.0


def test_a_failure_on_idle_capacity_is_the_segments_result() -> None:
    bench = Bench(ScriptedRecognizer(streaming=False, fail_above_level=0.5))
    bench.run(Open(1, SPEC, DecodeOptions()), Feed(1, audio(level=0.9)), pause(1))
    assert [one.text for one in bench.partials] == [""]
    bench.run(RequestPartial(1))
    assert [one.requested for one in bench.partials] == [False, True], "a request is still answered"
    bench.run(pause(1), Finish(1))
    final = bench.finals[1]
    assert final.transcript.null_cause is NullCause.ERROR
    assert "scripted failure" in final.transcript.detail
    assert not final.effort.speculated


def test_a_dropped_stream_leaves_nothing_behind(clock: list[float]) -> None:
    bench = Bench(Metered(clock)).run(Open(1, SPEC, DecodeOptions()), Feed(1, audio()), pause(1))
    bench.decoder.cancel(1)
    assert bench.decoder.wait_s is None
    bench.run(Open(2, SPEC, DecodeOptions()), Feed(2, audio()), Finish(2))
    assert bench.finals[2].spare_cpu_s == 1.0, "the decode in the pause was in vain"
    bench.decoder.cancel(99)


def test_the_end_of_a_stream_that_was_never_opened_is_answered() -> None:
    bench = Bench(ScriptedRecognizer()).run(Feed(1, audio()), Finish(1))
    assert bench.finals[1].transcript.null_cause is NullCause.ERROR
