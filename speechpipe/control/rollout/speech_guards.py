"""The guards of rollouts of a speech cascade, computed from records."""

from speechpipe.control.rollout.guards import Guard, GuardSet, PairedGuard
from speechpipe.foundation.storage.record import Record
from speechpipe.types import FAILURES

LOST = frozenset(cause.value for cause in FAILURES)
BROKEN = ("internal_error", "overloaded", "not_ready")
LEAST_S = 1.0
MANY_WORDS = 1 / 3


def _error(record: Record, _: float) -> bool:
    if record.measures.get("route.failover"):
        return True
    if record.kind == "unit":
        return record.outcome in LOST
    return record.kind == "session" and (record.outcome.endswith("_failed") or record.outcome in BROKEN)


def _empty(record: Record, _: float) -> bool:
    return record.kind == "unit" and record.outcome in ("empty", "withdrawn")


def _no_trigger(record: Record, _: float) -> bool:
    known = record.kind == "session" and record.number("input.duration_s") >= LEAST_S
    return known and record.measures.get("vad.segments") == 0


def _slow(record: Record, slow_s: float) -> bool:
    if record.kind == "unit":
        return record.number("live.endpoint_to_final_s") > slow_s
    return record.kind == "session" and record.channel == "upload" and record.number("software.real_time_factor") > 1


def _wrong(record: Record, _: float) -> bool:
    reviewed = record.kind == "feedback" and record.outcome == "review"
    return reviewed and record.number("people.wer") > MANY_WORDS


def _feedback(kind: str) -> Guard:
    names = {
        "redo": "the user said it again",
        "switch_to_typing": "the user typed instead",
        "abandon": "the user gave up",
        "correction": "the user corrected the text",
    }
    return Guard(kind, names[kind], 0.02, lambda record, _: record.kind == "feedback" and record.outcome == kind)


GUARDS = GuardSet(
    events=(
        Guard("error", "a stage failed, or a segment was lost", 0.01, _error),
        Guard("empty", "a segment without a word", 0.02, _empty),
        Guard("no_trigger", "VAD found no speech at all", 0.02, _no_trigger),
        Guard("slow", "the text came too late", 0.02, _slow),
        _feedback("redo"),
        _feedback("switch_to_typing"),
        _feedback("abandon"),
        _feedback("correction"),
        Guard("wrong", "a reviewer changed more than a third of the words", 0.02, _wrong),
    ),
    paired=(
        PairedGuard("failed", "the candidate failed and the champion did not", "shadow.failed"),
        PairedGuard("null", "no text where the champion has some", "shadow.null"),
        PairedGuard("words", "share of the champion's number of words that is missing", "shadow.words_lost"),
        PairedGuard("cost", "more than twice the champion's CPU time", "shadow.costly"),
    ),
    shown={
        "shadow.difference": "words that differ between the arms, as a share of the champion's",
        "shadow.vad_overlap": "speech found by both, as a share of speech found by either",
        "shadow.confidence_change": "change of the confidence",
        "shadow.cost": "CPU time, times the champion's",
        "shadow.wrong_change": "change of the word error rate, where a reviewer's text is known",
    },
    bounded={"asr.confidence": "confidence"},
    halves=(("vad", "shadow.vad_half"), ("asr", "shadow.asr_half")),
)
