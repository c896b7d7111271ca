"""The laboratory: runs the real cascade on real recordings with injected faults, and keeps the outputs of each stage.

Each recording is a session of its own, with silence before and after it, in a few natural variants (level, some noise).
A session runs once for each fault and severity. Faults of recognizer texts are applied to the healthy session's texts,
and faults of the service and of clients to its records, because they do not change the audio.
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from speechpipe.bench.faults import SEVERITIES, Fault, Level, audio, detection, recognition
from speechpipe.cascade.asr import DecodeOptions, Recognizer, load_recognizer
from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import shipped_models
from speechpipe.cascade.catalog.factories import segmenter
from speechpipe.cascade.evaluation.manifest import Clip
from speechpipe.cascade.evaluation.scores import edit_share
from speechpipe.cascade.session import Session, SessionOptions
from speechpipe.cascade.vad import Vad, load_component
from speechpipe.cascade.workers import Decoded
from speechpipe.cascade.workers.job import Job
from speechpipe.foundation.storage.record import Record
from speechpipe.serving.health.probes import AnswerSeen, SegmentSeen, answer_seen, segment_seen
from speechpipe.serving.telemetry.records import Context, InputFacts, session_record, utterance_record
from speechpipe.types import SAMPLE_RATE_HZ, Bundle, Component, DecodeStats, Samples, Utterance

ROOM_S = (0.4, 1.0)
GAIN_DB = 4.0
NOISE_DB = (25.0, 40.0)
VOICES = 6


Condition = tuple[str, str]
"""Name of a fault and its severity; ("", "") is healthy."""

HEALTHY: Condition = ("", "")


@dataclass(frozen=True)
class ClipResult:
    """The cascade's result for one clip."""

    clip: int
    session: Record
    units: tuple[Record, ...]
    wrong: float  # word errors divided by words, at most 1
    segments: tuple[SegmentSeen, ...]
    answers: tuple[AnswerSeen, ...]


def chosen(clips: Sequence[Clip], most_s: float, seed: int = 0) -> list[Clip]:
    """Return clips of at most `most_s` seconds in total, taken from the speakers in turn."""
    random = np.random.default_rng(seed)
    by_speaker: dict[str, list[Clip]] = {}
    for index in random.permutation(len(clips)).tolist():
        by_speaker.setdefault(clips[index].speaker, []).append(clips[index])
    found: list[Clip] = []
    total = 0.0
    while any(by_speaker.values()):
        for mine in by_speaker.values():
            if mine:
                clip = mine.pop()
                if not found or total + clip.duration_s <= most_s:
                    found.append(clip)
                    total += clip.duration_s
    return found


def run(
    clips: Sequence[Clip], bundle: Bundle, faults: Sequence[Fault], variants: int
) -> Mapping[Condition, list[ClipResult]]:
    """Run every clip in every variant, healthy and with each fault at each severity, on all cores."""
    found: dict[Condition, list[ClipResult]] = {}
    with ProcessPoolExecutor(os.cpu_count(), initializer=_begin, initargs=(clips, bundle, faults)) as pool:
        turns = [(clip, variant) for clip in range(len(clips)) for variant in range(variants)]
        for answers in pool.map(_run_all, turns):
            for condition, answer in answers.items():
                found.setdefault(condition, []).append(answer)
    return found


# ---- in the worker processes ----


@dataclass
class _Bench:
    """The state that all tasks of a process share."""

    clips: Sequence[Clip]
    bundle: Bundle
    faults: Sequence[Fault]
    vad: Vad
    small: Component
    recognizers: dict[str, Recognizer]

    def recognizer(self, model: Component) -> tuple[str, Recognizer]:
        key = json.dumps([model.implementation, model.options], sort_keys=True)
        if key not in self.recognizers:
            self.recognizers[key] = load_recognizer(model.implementation, model.files, **model.options)
        return key, self.recognizers[key]


_bench: _Bench | None = None


def _begin(clips: Sequence[Clip], bundle: Bundle, faults: Sequence[Fault]) -> None:
    global _bench  # noqa: PLW0603 - loaded once in each process
    vad = load_component(bundle.vad)
    small = Catalogue([shipped_models()]).bundle("embedded").asr
    _bench = _Bench(clips, bundle, faults, vad, small, {})
    os.nice(5)


Decodes = dict[tuple[str, bytes], Decoded]


def _run_all(turn: tuple[int, int]) -> dict[Condition, ClipResult]:
    bench, (clip, variant) = _bench, turn
    assert bench is not None
    decodes: Decodes = {}
    found = {HEALTHY: _run(bench, clip, variant, None, 0.0, decodes)}
    for fault in bench.faults:
        if fault.level in (Level.INPUT, Level.VAD, Level.ASR):
            for severity, value in zip(SEVERITIES, fault.values, strict=True):
                found[fault.name, severity] = _run(bench, clip, variant, fault, value, decodes)
    return found


class _InlineJob:
    """A job that decodes its segment on the calling thread when it ends. Results are cached by audio and options."""

    def __init__(self, bench: _Bench, fault: Fault | None, value: float, decode: DecodeOptions, known: Decodes) -> None:
        self.future: Future[Decoded] = Future()
        self.options = decode
        self.audio_s = self.backlog_s = 0.0
        self._name, self._value = ("", 0.0) if fault is None or fault.level is not Level.ASR else (fault.name, value)
        self._key, self._recognizer = bench.recognizer(
            recognition.model(self._name, value, bench.bundle.asr, bench.small)
        )
        self._known = known
        self._parts: list[Samples] = []

    def feed(self, samples: Samples, *, endpoint_near: bool = False) -> None:
        del endpoint_near
        self._parts.append(samples)

    def finish(self, *others: "_InlineJob") -> None:
        self._finish()
        for other in others:
            other._finish()

    def _finish(self) -> None:
        samples = recognition.features(self._name, self._value, np.concatenate(self._parts))
        key = (self._key, samples.tobytes())
        if key not in self._known:
            wall, cpu = time.perf_counter(), time.process_time()
            stream = self._recognizer.open(self.options)
            stream.feed(samples)
            transcript = stream.finish()
            stats = DecodeStats(0.0, time.perf_counter() - wall, time.process_time() - cpu, 1)
            self._known[key] = Decoded(transcript, stats)
        decoded = self._known[key]
        chance = np.random.default_rng([len(samples), round(1000 * self._value)])
        spoiled = recognition.spoil(self._name, self._value, decoded.transcript, len(samples) / SAMPLE_RATE_HZ, chance)
        self.future.set_result(replace(decoded, transcript=spoiled))

    def cancel(self) -> None:
        self._parts.clear()


def _run(bench: _Bench, clip: int, variant: int, fault: Fault | None, value: float, known: Decodes) -> ClipResult:
    samples = natural(bench.clips[clip].samples, np.random.default_rng([clip, variant]))
    voices = [bench.clips[(clip + step) % len(bench.clips)].samples for step in range(1, VOICES)]
    sound, vad, bundle = audio.Sound(samples), bench.vad, bench.bundle
    if fault is not None and fault.level is Level.INPUT:
        chance = np.random.default_rng([clip, variant, 7])  # a generator of its own, so that the rest does not change
        sound = audio.spoil(fault.name, sound, value, audio.Material(chance, voices))
    if fault is not None and fault.level is Level.VAD:
        if changes := detection.parameters(fault.name, value):
            bundle = replace(bundle, segmenter={**bundle.segmenter, **changes})
        else:
            vad = detection.FaultyVad(vad, fault.name, value, voices[0], clip)
    session = Session(
        SessionOptions(
            id=f"c{clip}v{variant}",
            vad=vad,
            segmenter=segmenter(bundle, vad.frame_samples),
            open_job=lambda decode, _: cast("Job", _InlineJob(bench, fault, value, decode, known)),
            decode=DecodeOptions(offline=True),
        )
    )
    fed = np.asarray(sound.samples, np.float32)
    utterances = [*session.feed(fed), *session.finish()]
    facts = InputFacts(
        claimed_s=sound.claimed_s if sound.claimed_s is not None else len(fed) / SAMPLE_RATE_HZ,
        rate_hz=SAMPLE_RATE_HZ,
        channels=1 if sound.channel_correlation is None else 2,
        channel_correlation=sound.channel_correlation,
    )
    context = Context(session.id, "upload", bench.bundle)
    record = session_record(context, session.summary(), facts, "ok", (0.0, 0.0))
    return heard(clip, bench.clips[clip].text, record, utterances, context)


def heard(
    clip: int, text: str | None, session: Record, utterances: Sequence[Utterance], context: Context
) -> ClipResult:
    """Return the result of a session."""
    spoken = " ".join(one.transcript.text for one in utterances)
    return ClipResult(
        clip=clip,
        session=session,
        units=tuple(utterance_record(context, one, 0.0) for one in utterances),
        wrong=edit_share(text, spoken) if text else 0.3,
        segments=tuple(segment_seen(one) for one in utterances),
        answers=tuple(answer_seen(one) for one in utterances),
    )


def natural(samples: Samples, random: np.random.Generator) -> Samples:
    """Return (n,) samples of a session: speech at a level within `GAIN_DB`, a room around it, and faint noise."""
    before, after = (np.zeros(round(random.uniform(*ROOM_S) * SAMPLE_RATE_HZ), np.float32) for _ in range(2))
    gain = 10 ** (random.uniform(-GAIN_DB, GAIN_DB) / 20)
    speech = np.clip(samples * gain, -0.99, 0.99)
    whole = np.concatenate([before, speech, after])
    level = 10 ** (-random.uniform(*NOISE_DB) / 20) * float(np.sqrt(np.mean(speech**2)) + 1e-6)
    noise = audio.pink(len(whole), random)
    return np.asarray(whole + noise / (float(np.std(noise)) + 1e-9) * level, np.float32)
