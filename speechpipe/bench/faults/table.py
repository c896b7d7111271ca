"""The table of all faults. Thresholds are tuned on half of them, and figures are reported on the others."""

from speechpipe.bench.faults import Fault, Level

_INPUT, _VAD, _ASR, _INFRA, _CLIENT = Level.INPUT, Level.VAD, Level.ASR, Level.INFRA, Level.CLIENT

FAULTS = (
    Fault("gain", _INPUT, "quieter by this many dB", (12, 20, 30), tuning=True),
    Fault("hard_clipping", _INPUT, "clipped by this many dB", (12, 20, 30), tuning=False),
    Fault("noise", _INPUT, "pink noise at this signal-to-noise ratio in dB", (10, 5, 0), tuning=True),
    Fault("babble", _INPUT, "other voices at this signal-to-noise ratio in dB", (10, 5, 0), tuning=False),
    Fault("sample_rate_confusion", _INPUT, "share of sessions at 8 kHz sent as 16 kHz", (0.3, 0.6, 1.0), tuning=True),
    Fault("slowed_down", _INPUT, "share of sessions at 16 kHz sent as 8 kHz", (0.3, 0.6, 1.0), tuning=False),
    Fault("narrow_band", _INPUT, "telephone: 3.4 kHz; and mu-law; and 2 kHz at 5 bits", (1, 2, 3), tuning=False),
    Fault("dropped_frames", _INPUT, "share of 20 ms frames lost", (0.05, 0.1, 0.2), tuning=True),
    Fault("truncated_upload", _INPUT, "share of each upload that is missing", (0.2, 0.5, 0.75), tuning=False),
    Fault("empty_payload", _INPUT, "share of sessions that are silent", (0.1, 0.3, 0.6), tuning=True),
    Fault("dc_and_hum", _INPUT, "DC offset and hum of 50 Hz at this level", (0.03, 0.1, 0.25), tuning=False),
    Fault("phase_cancellation", _INPUT, "stereo whose right channel is the left times minus this", (0.5, 0.8, 1.0), tuning=True),
    Fault("far_field", _INPUT, "a room with this reverberation time in s", (0.3, 0.6, 1.2), tuning=False),
    Fault("vocabulary_switch", _INPUT, "share of sessions in an unknown language (played backwards)", (0.3, 0.6, 1.0), tuning=True),
    Fault("vad_threshold", _VAD, "threshold raised to this", (0.65, 0.8, 0.9), tuning=True),
    Fault("vad_threshold_low", _VAD, "threshold lowered to this", (0.3, 0.15, 0.05), tuning=False),
    Fault("vad_min_silence", _VAD, "silence in s that ends a segment", (0.3, 0.15, 0.05), tuning=False),
    Fault("vad_padding", _VAD, "pre-roll and padding in s", (0.2, 0.1, 0.0), tuning=True),
    Fault("vad_state_not_reset", _VAD, "seconds of another session in the detector's state", (1.0, 3.0, 10.0), tuning=False),
    Fault("vad_normalisation", _VAD, "samples divided by this before the detector", (10, 100, 1000), tuning=True),
    Fault("vad_weights", _VAD, "share of noise in the scores", (0.3, 0.6, 0.9), tuning=False),
    Fault("vad_boundary_offset", _VAD, "segments delayed by this many ms", (100, 200, 300), tuning=True),
    Fault("asr_wrong_model", _ASR, "a model that is smaller by this many steps", (1, 2, 3), tuning=True),
    Fault("asr_truncated", _ASR, "share of each text that is missing", (0.2, 0.5, 0.75), tuning=False),
    Fault("asr_repetition", _ASR, "share of texts that repeat themselves", (0.1, 0.3, 0.6), tuning=True),
    Fault("asr_vocabulary", _ASR, "share of words that the model does not know", (0.15, 0.3, 0.6), tuning=False),
    Fault("asr_empty_on_long", _ASR, "segments longer than this in s return no text", (4.0, 2.5, 1.5), tuning=True),
    Fault("asr_feature_scaling", _ASR, "how many extra times pre-emphasis is applied", (1, 2, 3), tuning=False),
    Fault("asr_digits_dropped", _ASR, "share of number words that are dropped", (0.3, 0.6, 1.0), tuning=True),
    Fault("confidence_offset", _ASR, "confidence raised by this, texts unchanged", (0.1, 0.2, 0.3), tuning=False),
    Fault("cpu_contention", _INFRA, "half of the segments take this many times as long", (2, 4, 8), tuning=True),
    Fault("memory_leak_and_restarts", _INFRA, "share of segments that lose their worker", (0.05, 0.15, 0.4), tuning=False),
    Fault("worker_timeouts", _INFRA, "share of segments that time out", (0.05, 0.15, 0.4), tuning=False),
    Fault("duplicated_responses", _INFRA, "share of sessions whose answers are duplicated and reordered", (0.1, 0.25, 0.5), tuning=True),
    Fault("version_skew", _INFRA, "share of segments on a worker with another model", (0.25, 0.5, 1.0), tuning=False),
    Fault("records_lost", _INFRA, "share of records that never reach the store", (0.1, 0.25, 0.5), tuning=True),
    Fault("canary_share", _INFRA, "share of sessions on the canary, where 5 % were planned", (0.15, 0.4, 0.8), tuning=False),
    Fault("redo_button_moved", _CLIENT, "share of users who no longer find it", (0.5, 0.8, 1.0), tuning=True),
    Fault("text_box_hidden", _CLIENT, "share of additional users who type instead", (0.08, 0.2, 0.5), tuning=False),
)  # fmt: skip

BY_NAME = {fault.name: fault for fault in FAULTS}
