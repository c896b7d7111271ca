"""One session of the cascade: nothing lost, nothing invented, whatever the size of the blocks."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechpipe.cascade.asr import SHORTENED, DecodeOptions
from speechpipe.cascade.recognition import text_notices
from speechpipe.cascade.request import SessionRequest
from speechpipe.cascade.session import Session, SessionOptions
from speechpipe.cascade.vad import load_vad
from speechpipe.cascade.vad.segmenter import Segmenter, SegmenterOptions
from speechpipe.cascade.workers import Decoded, RecognizerSpec
from speechpipe.errors import StageFailed
from speechpipe.serving.service import Service
from speechpipe.types import Bundle, DecodeStats, NullCause, Samples, Transcript, Utterance
from tests.sounds import EXPECTED, bursts, sample

PATTERNS = st.lists(
    st.tuples(st.sampled_from([0.05, 0.2, 0.5, 1.3]), st.sampled_from([0.0, 0.0003, 0.1])), min_size=1, max_size=8
)


def drive(session: Session, audio: Samples, sizes: list[int]) -> list[Utterance]:
    """Feed in blocks of these sizes, in turn; the accounting must balance after every step."""
    at, turn, utterances = 0, 0, []
    while at < len(audio):
        size = sizes[turn % len(sizes)]
        utterances += session.feed(audio[at : at + size])
        at, turn = at + size, turn + 1
        assert session.accounting.balanced, session.accounting
        assert session.accounting.received == min(at, len(audio))
    utterances += session.finish()
    assert session.accounting.balanced
    while not session.done:
        utterances += session.wait(5.0)
    return utterances


def session_of(service: Service, **changes: float) -> Session:
    bundle = service.engine.catalogue.with_parts(service.engine.bundle("scripted"), vad="energy")
    bundle = service.engine.catalogue.changed(bundle, {f"vad.{name}": value for name, value in changes.items()})
    return service.engine.session(bundle, SessionRequest(DecodeOptions(offline=True)))


def shape(utterances: list[Utterance]) -> list[tuple[int, int, str]]:
    return [(item.segment.start, item.segment.end, item.transcript.text) for item in utterances]


@settings(max_examples=40)
@given(PATTERNS, st.lists(st.sampled_from([1, 160, 511, 512, 513, 4000, 40_000]), min_size=1, max_size=4))
def test_blocks_change_nothing_and_every_sample_is_accounted_for(
    service: Service, pattern: list[tuple[float, float]], sizes: list[int]
) -> None:
    audio = bursts(pattern)
    if max(sizes) == 1:
        audio = audio[:2000]
    whole = drive(session_of(service), audio, [len(audio)])
    parts_session = session_of(service)
    parts = drive(parts_session, audio, sizes)
    assert shape(parts) == shape(whole)
    accounting = parts_session.accounting
    assert accounting.pending == 0
    assert accounting.received == len(audio)
    assert accounting.in_utterances == sum(item.segment.end - item.segment.start for item in parts)
    # The scripted recognizer's words are a digest of its samples: the right audio reached it, to the sample.
    assert [item.index for item in parts] == list(range(len(parts)))


def test_words_lie_inside_their_segment_and_never_go_back(service: Service) -> None:
    utterances = drive(
        session_of(service), bursts([(0.5, 0.0), (1.7, 0.1), (1.0, 0.0), (0.9, 0.1), (1.0, 0.0)]), [1600]
    )
    assert len(utterances) == 2
    latest = 0.0
    for utterance in utterances:
        for word in utterance.transcript.words:
            assert utterance.segment.start / 16_000 <= word.start_s <= word.end_s <= utterance.segment.end / 16_000
            assert word.start_s >= latest
            latest = word.end_s


def test_digital_silence_and_noise_give_no_text(service: Service) -> None:
    for name in ("silence", "noise"):
        session = service.engine.session(service.engine.bundle("default"), SessionRequest(DecodeOptions(offline=True)))
        assert drive(session, sample(name), [16_000]) == []
        assert session.accounting.dropped_by_vad == session.accounting.received == len(sample(name))


def test_real_vad_finds_the_known_spans(service: Service) -> None:
    for name in ("long_pauses", "two_speakers", "digits", "noise_20db"):
        session = service.engine.session(service.engine.bundle("scripted"), SessionRequest(DecodeOptions(offline=True)))
        utterances = drive(session, sample(name), [8000])
        truth = EXPECTED[name]["speech"]
        assert len(utterances) == len(truth), name
        for utterance, (start, end) in zip(utterances, truth, strict=True):
            assert utterance.segment.speech_start / 16_000 == pytest.approx(start, abs=EXPECTED[name]["boundary_s"])
            assert utterance.segment.speech_end / 16_000 == pytest.approx(end, abs=EXPECTED[name]["boundary_s"])
            assert utterance.segment.start / 16_000 <= start, "the pre-roll keeps the first word whole"


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (lambda frames: 1 / 0, "ZeroDivisionError"),
        (lambda frames: np.full(len(frames), np.nan, np.float32), "not finite"),
        (lambda frames: np.zeros(len(frames) + 1, np.float32), "shape"),
    ],
)
def test_a_broken_vad_is_an_error_and_never_silence(
    service: Service, scores: Callable[[Samples], Samples], reason: str
) -> None:
    class Broken:
        frame_samples = 512

        def open(self) -> "Broken":
            return self

        def probabilities(self, frames: Samples) -> Samples:
            return scores(frames)

    options = SessionOptions("s", Broken(), Segmenter(SegmenterOptions(), 512), lambda *_: None)  # type: ignore[arg-type]
    with pytest.raises(StageFailed, match=reason) as caught:
        Session(options).feed(np.zeros(4096, np.float32))
    assert caught.value.stage == "vad"


def test_an_utterance_without_text_says_why(service: Service) -> None:
    bundle = service.engine.catalogue.with_parts(service.engine.bundle("scripted"), vad="energy")
    deaf = service.engine.catalogue.changed(bundle, {"asr.empty_below_level": 2.0})
    failing = service.engine.catalogue.changed(bundle, {"asr.fail_above_level": 0.0})
    audio = bursts([(0.3, 0.0), (1.0, 0.1), (1.0, 0.0)])
    for chosen, cause in ((deaf, NullCause.EMPTY), (failing, NullCause.ERROR)):
        session = service.engine.session(chosen, SessionRequest(DecodeOptions(offline=True)))
        (utterance,) = drive(session, audio, [1600])
        assert utterance.transcript.null_cause is cause
        assert session.summary().nulls == {cause: 1}


def test_a_session_waits_for_recognizers_instead_of_filling_memory(service: Service) -> None:
    audio = bursts([(0.5, 0.0), (1.0, 0.1)] * 8 + [(1.0, 0.0)])
    bundle = service.engine.catalogue.with_parts(service.engine.bundle("scripted"), vad="energy")
    slow = service.engine.catalogue.changed(bundle, {"asr.cost": 0.05})
    session = Session(
        SessionOptions(
            "bounded",
            load_vad("energy"),
            Segmenter(SegmenterOptions(min_silence_s=0.2, padding_s=0.1), 512),
            lambda decode, _: service.engine.pool.open(_spec(slow), decode, "bounded"),
            DecodeOptions(offline=True),
            max_pending_s=2.0,
        )
    )
    returned = session.feed(audio)
    assert returned, "the first results were waited for"
    assert service.engine.pool.status().queued_s <= 4.0
    session.finish()
    while not session.done:
        returned += session.wait(5.0)
    assert len(returned) == 8


def _spec(bundle: Bundle) -> RecognizerSpec:
    return RecognizerSpec(bundle.asr.implementation, bundle.asr.options, bundle.asr.files)


class Script:
    """A VAD whose scores are given: one for each frame of 512 samples."""

    frame_samples = 512

    def __init__(self, scores: list[float]) -> None:
        self.scores = scores

    def open(self) -> "Script":
        return self

    def probabilities(self, frames: Samples) -> Samples:
        taken, self.scores = self.scores[: len(frames)], self.scores[len(frames) :]
        return np.array(taken, np.float32)


class Fed:
    """A job that keeps what it is fed: (samples, whether they are silence in a pause)."""

    def __init__(self) -> None:
        self.parts: list[tuple[int, bool]] = []
        self.ended_with: int | None = None
        self.future: Future[Decoded] = Future()
        self.audio_s = self.backlog_s = 0.0

    def feed(self, samples: Samples, *, endpoint_near: bool) -> None:
        self.parts.append((len(samples) // 512, endpoint_near))

    def finish(self, *others: "Fed") -> None:
        self.ended_with = len(others)

    def cancel(self) -> None:
        pass


def heard(scores: list[float], block: int, *, offline: bool = False, step: int = 1600) -> list[Fed]:
    """The jobs of a session whose VAD has these scores; `block`: frames at once. 10 frames of silence end a segment."""
    jobs: list[Fed] = []

    def open_job(*_: object) -> Any:
        jobs.append(Fed())
        return jobs[-1]

    cut = SegmenterOptions(min_silence_s=0.32, padding_s=0.16, pre_roll_s=0.0, min_speech_s=0.0)
    decode = DecodeOptions(offline=offline)
    options = SessionOptions("s", Script(scores), Segmenter(cut, 512), open_job, decode, feed_step=step)
    session = Session(options)
    for start in range(0, len(scores), block):
        session.feed(np.zeros(512 * min(block, len(scores) - start), np.float32))
    return jobs


def test_a_live_recognizer_is_told_at_once_when_a_pause_begins_and_which_samples_are_silence() -> None:
    (job,) = heard([1.0] * 9 + [0.0] * 12, block=1)
    assert job.parts == [(4, False), (4, False), (1, False), (3, True), (2, True)]
    assert job.ended_with == 0


def test_speech_between_two_pauses_is_no_silence_though_all_arrive_in_one_block() -> None:
    scores = [1.0] * 8 + [0.0] * 4 + [0.0] * 2 + [1.0] * 2 + [0.0] * 4 + [0.0] * 8
    (job,) = heard(scores, block=8)
    assert job.parts == [(8, False), (8, False), (5, True)], "the second block ends within the second pause"


def test_segments_of_an_upload_that_end_in_one_block_end_together() -> None:
    scores = ([1.0] * 4 + [0.0] * 12) * 3
    jobs = heard(scores, block=len(scores), offline=True, step=0)
    assert [job.ended_with for job in jobs] == [2, None, None]
    assert [sum(count for count, _ in job.parts) for job in jobs] == [9, 9, 9]


def test_a_text_of_which_the_end_was_dropped_is_said() -> None:
    def open_job(*_: object) -> Any:
        job = Fed()
        transcript = Transcript("five", facts={SHORTENED: 1.0})
        job.future.set_result(Decoded(transcript, DecodeStats(0.0, 0.1, 0.1, 1)))
        return job

    cut = SegmenterOptions(min_silence_s=0.32, padding_s=0.16, pre_roll_s=0.0, min_speech_s=0.0)
    scores = ([1.0] * 4 + [0.0] * 12) * 2
    session = Session(SessionOptions("s", Script(scores), Segmenter(cut, 512), open_job, DecodeOptions(offline=True)))
    assert len(drive(session, np.zeros(512 * len(scores), np.float32), [4096])) == 2
    (notice,) = text_notices([session.summary()])
    assert notice.code == "text_shortened"
    assert notice.message.startswith("2 segments")
