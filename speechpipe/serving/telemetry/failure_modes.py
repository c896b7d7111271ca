"""The registry of failure modes: what can fail, the metric that shows it, its detectors and the benchmark's faults.

It is derived from the catalogue of metrics, so that it is complete; only the faults are listed here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from speechpipe.monitor.detectors import FOR_REALS, FOR_SHARES
from speechpipe.monitor.profiles import is_watched
from speechpipe.monitor.spec import CascadeSpec, Metric, MetricKind

FAULTS_BY_METRIC: Mapping[str, tuple[str, ...]] = {
    "input.level_dbfs": ("gain",),
    "input.snr_db": ("noise", "babble", "far_field"),
    "input.bandwidth_hz": ("sample_rate_confusion", "narrow_band"),
    "input.high_band_share": ("narrow_band",),
    "input.clipped_share": ("hard_clipping",),
    "input.zero_run_share": ("dropped_frames", "empty_payload"),
    "input.dc_offset": ("dc_and_hum",),
    "input.channel_correlation": ("phase_cancellation",),
    "input.missing_share": ("empty_payload",),
    "input.header_mismatch_share": ("truncated_upload",),
    "vad.trigger_rate": ("vad_threshold", "vad_state_not_reset", "vad_weights"),
    "vad.segment_s": ("vad_min_silence", "vad_padding", "vad_boundary_offset"),
    "vad.speech_ratio": ("vad_threshold",),
    "vad.no_trigger_share": ("vad_weights",),
    "vad.resumed_share": ("vad_min_silence",),
    "vad.endpoint_delay_s": ("vad_min_silence",),
    "vad.unended_share": ("vad_threshold_low",),
    "vad.flips_per_minute": ("vad_min_silence",),
    "asr.null_share": ("asr_empty_on_long", "worker_timeouts"),
    "asr.timeout_share": ("worker_timeouts", "cpu_contention"),
    "asr.crash_share": ("memory_leak_and_restarts",),
    "asr.confidence": ("asr_wrong_model", "asr_feature_scaling", "confidence_offset"),
    "asr.edge_confidence": ("vad_padding", "vad_boundary_offset"),
    "asr.words_per_s": ("asr_truncated", "asr_digits_dropped"),
    "asr.repeated_share": ("asr_repetition",),
    "asr.oov_share": ("vocabulary_switch",),
    "people.redo_rate": ("redo_button_moved",),
    "people.switch_to_typing_rate": ("text_box_hidden",),
    "software.endpoint_to_final_s": ("cpu_contention",),
    "software.wait_s": ("cpu_contention",),
    "software.left_share": ("cpu_contention",),
    "software.late_share": ("cpu_contention", "worker_timeouts"),
    "software.rss_mb": ("memory_leak_and_restarts",),
    "system.records_lost": ("records_lost",),
}


@dataclass(frozen=True, slots=True)
class FailureMode:
    """One row of the registry: a failure, its metric, detectors, alarms, runbook section and faults."""

    what: str
    metric: str
    detectors: tuple[str, ...]
    alarms: tuple[str, ...]
    runbook: str
    faults: tuple[str, ...]


def failure_modes(spec: CascadeSpec) -> list[FailureMode]:
    """Return the registry: one row for each metric that can raise an alarm."""
    return [_row(metric) for metric in spec.metrics if is_watched(metric) or metric.limit is not None]


def _row(metric: Metric) -> FailureMode:
    detectors, alarms = [], []
    if is_watched(metric):
        detectors.append(FOR_REALS if metric.value_kind is MetricKind.REAL else FOR_SHARES)
        alarms.append(f"drift:{metric.name}")
    if metric.limit is not None:
        detectors.append("limit")
        alarms.append(f"limit:{metric.name}")
    anchor = f"runbook.md#{metric.name.replace('.', '')}"
    return FailureMode(
        metric.catches, metric.name, tuple(detectors), tuple(alarms), anchor, FAULTS_BY_METRIC.get(metric.name, ())
    )
