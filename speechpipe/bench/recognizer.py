"""What a bundle costs and how well it recognizes, on recordings with texts and on this machine.

Uploads are recognized one after the other by one worker, then again by the recognizer alone, without the VAD. Live
audio is one stream on one worker, fed a tenth of a second at a time as it would be spoken.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from speechpipe import __version__
from speechpipe.bench.capacity import percentile
from speechpipe.bench.recordings import joined
from speechpipe.cascade.asr import DecodeOptions
from speechpipe.cascade.catalog.figures import Figures
from speechpipe.cascade.evaluation import normalizers
from speechpipe.cascade.evaluation.manifest import checked, rows_of
from speechpipe.cascade.evaluation.scores import Errors, normalise, rate, word_errors
from speechpipe.cascade.request import SessionRequest
from speechpipe.cascade.session import Session
from speechpipe.errors import BadInput, SpeechpipeError, reason_of
from speechpipe.foundation import system
from speechpipe.serving.live.sessions import FEED_SAMPLES
from speechpipe.serving.service import Service
from speechpipe.serving.transcription.transcriber import Result, Transcription, TranscriptionRequest
from speechpipe.types import SAMPLE_RATE_HZ, Bundle, Samples, Utterance

SPANS = tuple[tuple[float, float], ...]

LAST_WORDS_S = 60.0
"""Seconds to wait for the texts of a live stream after its audio has ended."""


@dataclass(frozen=True)
class Clip:
    """A recording of a manifest; `spans_s`: where it is known to be speech, in seconds."""

    audio: Path
    text: str | None
    spans_s: SPANS


def read_clips(manifests: Sequence[Path]) -> list[Clip]:
    """Return the recordings of manifests.

    Raises:
        BadInput: a line is wrong, a recording is missing, or no line has a text with words.
    """
    clips = []
    for manifest in manifests:
        for place, row in rows_of(manifest):
            checked(place, row)
            audio = manifest.parent / row["audio"]
            if not audio.is_file():
                raise BadInput(f"{place}: there is no file {audio}")
            clips.append(Clip(audio, row.get("text"), tuple((start, end) for start, end in row.get("speech") or ())))
    if not clips:
        raise BadInput(f"{', '.join(map(str, manifests))}: the manifest has no lines")
    if not any(clip.text and normalise(clip.text) for clip in clips):
        raise BadInput(f"{', '.join(map(str, manifests))}: no line has a `text` with words")
    return clips


@dataclass
class Uploads:
    """Sums over the uploads of one bundle."""

    words: list[Errors] = field(default_factory=list)
    words_alone: list[Errors] = field(default_factory=list)
    audio_s: float = 0.0
    cpu_s: float = 0.0


def measure(
    make: Callable[[], Service],
    bundle: Bundle,
    manifests: Sequence[Path],
    live_s: float,
    advance: Callable[[str, float], None] = lambda what, share: None,
) -> Figures:
    """Return the figures of a bundle. Blocks for as long as the recordings need, and about `live_s` seconds more.

    Args:
        make: returns a service that is not started, with one worker for files and one for live audio.
        bundle: with its weights on this machine.
        manifests: of the recordings.
        live_s: most seconds of live audio; 0: no latency is measured.
        advance: is told what is measured, and the share of it that is done.

    Raises:
        BadInput: a manifest or a recording cannot be used.
        WorkerLoadFailed, StageFailed: the recognizer or the VAD does not work.
    """
    clips = read_clips(manifests)
    service = make()
    begun = time.monotonic()
    with service:
        load_s = time.monotonic() - begun
        name = normalizers.default_for(bundle.languages)
        by = normalizers.normalizer(name)
        assert by is not None
        uploads = Uploads()
        for number, clip in enumerate(clips):
            advance(f"{bundle.id}: uploads", number / len(clips))
            _upload(service, bundle, clip, by, uploads)
        finals_s = _live(service, bundle, _speech(clips, live_s), partial_of(advance, f"{bundle.id}: live"))
        pools = [service.engine.pool, service.engine.live_pool]
        rss_mb = max(worker.peak_rss_mb for pool in pools for worker in pool.supervisor.workers)
        hash_ = service.engine.catalogue.digest(bundle)
    wer, alone = rate(uploads.words), rate(uploads.words_alone)
    if wer is None or alone is None:
        raise BadInput(f"{', '.join(map(str, manifests))}: no line has a `text` with words")
    return Figures(
        bundle=bundle.id,
        hash=hash_,
        wer=round(wer.value, 4),
        wer_low=round(wer.low, 4),
        wer_high=round(wer.high, 4),
        wer_alone=round(alone.value, 4),
        words=sum(errors.length for errors in uploads.words),
        normalizer=name,
        audio_s=round(uploads.audio_s, 1),
        cpu=round(uploads.cpu_s / uploads.audio_s, 4),
        finals=len(finals_s),
        final_p50_ms=round(1000 * percentile(finals_s, 0.5)) if finals_s else 0,
        final_p95_ms=round(1000 * percentile(finals_s, 0.95)) if finals_s else 0,
        worker_rss_mb=round(rss_mb),
        load_s=round(load_s, 1),
        manifests=tuple(f"{manifest.absolute().parent.name}/{manifest.name}" for manifest in manifests),
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        machine=system.machine(),
        version=__version__,
    )


def partial_of(advance: Callable[[str, float], None], what: str) -> Callable[[float], None]:
    """Return a function that tells `advance` a share of `what`."""
    return lambda share: advance(what, share)


def _upload(service: Service, bundle: Bundle, clip: Clip, by: Callable[[str], str], sums: Uploads) -> None:
    """Recognize a recording as an upload, and its speech by the recognizer alone.

    The CPU is that of the first: the worker's as it counts it, and that of all threads of this process.
    """
    begun = time.process_time()
    result = transcribed(service, clip.audio, TranscriptionRequest(bundle))
    sums.cpu_s += time.process_time() - begun + sum(channel.summary.asr_cpu_s for channel in result.channels)
    sums.audio_s += result.duration_s
    if clip.text is not None:
        spans = clip.spans_s or ((0.0, result.duration_s),)
        alone = transcribed(service, clip.audio, TranscriptionRequest(bundle, spans_s=spans))
        sums.words.append(word_errors(clip.text, result.text, by))
        sums.words_alone.append(word_errors(clip.text, alone.text, by))


def transcribed(service: Service, audio: Path, request: TranscriptionRequest) -> Result:
    """Return the result of one upload.

    Raises:
        BadInput: the recording cannot be used.
        StageFailed: a stage failed.
    """
    try:
        with audio.open("rb") as file:
            transcription = Transcription(service, file, request)
            for _ in transcription.run():
                pass
            return transcription.result
    except (SpeechpipeError, OSError) as error:
        raise BadInput(f"{audio}: {reason_of(error)}") from error


def _speech(clips: Sequence[Clip], most_s: float) -> Samples:
    """Return at most `most_s` seconds of the recordings, (n,) samples, with a pause after each."""
    parts: list[Samples] = []
    length, most = 0, round(most_s * SAMPLE_RATE_HZ)
    for clip in clips:
        if length >= most:
            break
        parts.append(joined([clip.audio])[: most - length])
        length += len(parts[-1])
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _live(service: Service, bundle: Bundle, speech: Samples, advance: Callable[[float], None]) -> list[float]:
    """Speak to one live session; return the seconds from the end of each segment with a text to that text."""
    session = service.engine.session(bundle, SessionRequest(DecodeOptions(), feed_step=FEED_SAMPLES))
    heard: list[Utterance] = []
    begun = time.monotonic()
    try:
        for start in range(0, len(speech), FEED_SAMPLES):
            block = speech[start : start + FEED_SAMPLES]
            due = begun + (start + len(block)) / SAMPLE_RATE_HZ  # a microphone gives it when it was spoken
            time.sleep(max(0.0, due - time.monotonic()))
            heard += session.feed(block)
            advance(start / len(speech))
        heard += session.finish() + _rest(session)
    finally:
        session.abort()
    return [utterance.stats.final_s for utterance in heard if utterance.transcript.text]


def _rest(session: Session) -> list[Utterance]:
    heard: list[Utterance] = []
    until = time.monotonic() + LAST_WORDS_S
    while not session.done and time.monotonic() < until:
        heard += session.wait(1.0)
    return heard
