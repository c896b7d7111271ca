"""Factories: catalogue, sources of weights, and options of segmenters, pools and recognizers, from the settings."""

from dataclasses import replace

from speechpipe.cascade.audio.retention import AudioRetention
from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import shipped_models
from speechpipe.cascade.catalog.sources import HUB, Network
from speechpipe.cascade.vad import Segmenting
from speechpipe.cascade.vad.fixed import FixedSegments, ManualSegments
from speechpipe.cascade.vad.segmenter import Segmenter, SegmenterOptions
from speechpipe.cascade.workers import PoolOptions, RecognizerSpec
from speechpipe.config import Settings, hub_access
from speechpipe.types import SAMPLE_RATE_HZ, Bundle, Component


def segmenter(
    bundle: Bundle,
    frame_samples: int,
    *,
    start: int = 0,
    spans_s: tuple[tuple[float, float], ...] | None = None,
    manual: bool = False,
) -> Segmenting:
    """Return the segmenter for a session of `bundle`, from sample `start` on.

    `spans_s`: known spans of speech (seconds). `manual`: segments end at commits. Neither: by the VAD's scores.
    """
    options = SegmenterOptions().changed(bundle.segmenter)
    if spans_s is not None:
        spans = [(round(start * SAMPLE_RATE_HZ), round(end * SAMPLE_RATE_HZ)) for start, end in spans_s]
        return FixedSegments(spans, frame_samples)
    if manual:
        return ManualSegments(frame_samples, options.max_segment_s, start)
    return Segmenter(options, frame_samples, start)


def network(settings: Settings) -> Network:
    """Return where weights may be fetched from.

    Raises:
        BadInput: `HF_ENDPOINT` or `HF_TOKEN` is invalid.
    """
    endpoint, token = hub_access()
    return Network(endpoint or HUB, token, settings.models_mirror, settings.offline)


def file_pool(settings: Settings) -> PoolOptions:
    """Return the options of the pool for uploads and files: one offline segment per worker."""
    return PoolOptions(
        workers=settings.worker_count,
        nice=settings.worker_nice,
        max_jobs=settings.worker_max_jobs,
        max_rss_mb=settings.worker_max_rss_mb,
        segment_timeout_s=settings.segment_timeout_s,
        attempts=settings.segment_attempts,
        start_timeout_s=settings.start_timeout_s,
        wait_s=settings.worker_wait_s,
        threads=max(1, settings.cores // settings.worker_count),
    )


def live_pool(settings: Settings) -> PoolOptions:
    """Return the options of the pool for live audio: many segments per worker, at a higher priority."""
    return replace(
        file_pool(settings),
        workers=settings.live_worker_count,
        threads=max(1, settings.cores // settings.live_worker_count),
        slots=settings.live_slots,
        warm_streams=settings.live_warm_streams,
        live=True,
        nice=settings.live_worker_nice,
        max_rss_mb=settings.live_worker_max_rss_mb,
    )


def kept_audio(settings: Settings) -> AudioRetention:
    """Return the retention of session audio in the state directory."""
    return AudioRetention(settings.state_dir / "audio", settings.keep_audio_hours, settings.keep_audio_share)


def catalogue(settings: Settings) -> Catalogue:
    """Return the catalogue of the package's cards and those in the server's own models folder.

    Raises:
        BadInput: a card is invalid.
    """
    return Catalogue([shipped_models(), settings.own_models_dir], settings.weights_dir)


def recognizer(component: Component) -> RecognizerSpec:
    """Return the spec of a recognizer component for the workers."""
    return RecognizerSpec(component.implementation, component.options, component.files)
