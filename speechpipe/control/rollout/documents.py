"""Evidence as JSON documents, for the history, pages and the terminal."""

from typing import Any

from speechpipe.control.rollout import Mode
from speechpipe.control.rollout.analysis import Evidence
from speechpipe.control.rollout.arm_counts import ArmCounts
from speechpipe.control.rollout.routes import Rollout
from speechpipe.serving.assignment import CANARY, CHAMPION, SHADOW

EVIDENCE = ("judgement", "reason", "more_sessions", "sample_ratio", "half", "guards")


def evidence_document(rollout: Rollout, found: Evidence, arm_counts: ArmCounts) -> dict[str, Any]:
    """Return the evidence of a step as JSON data. `harm` and `fine` of 1 are enough."""
    per_hour = arm_counts.per_hour
    return {
        "judgement": found.judgement.value,
        "reason": found.reason,
        "more_sessions": found.more,
        "sample_ratio": round(found.sample_ratio, 3),
        "half": found.half,
        "guards": [
            {
                "guard": row.guard,
                "help": row.help,
                "champion": {"events": row.champion[0], "sessions": row.champion[1]},
                "candidate": {"events": row.candidate[0], "sessions": row.candidate[1]},
                "harm": round(row.harm, 3),
                "fine": round(row.fine, 3),
                "judgement": row.judgement.value,
                "more_sessions": row.more,
            }
            for row in found.rows
        ],
        "arms": _arms(rollout.current.mode, rollout.weight, arm_counts),
        "shadow": _shadow(arm_counts),
        "means": _means(arm_counts),
        "sessions_per_hour": None if per_hour is None else round(per_hour, 1),
    }


def _arms(mode: Mode, weight: float, arm_counts: ArmCounts) -> list[dict[str, Any]]:
    if mode is Mode.SHADOW:
        return [{"arm": SHADOW, "weight": 0.0, "sessions": arm_counts.shadowed}]
    return [
        {"arm": arm, "weight": share, "sessions": arm_counts.sessions[arm], "units": arm_counts.units[arm]}
        for arm, share in ((CHAMPION, round(1 - weight, 6)), (CANARY, weight))
    ]


def _means(arm_counts: ArmCounts) -> list[dict[str, Any]]:
    """Return the means of both arms with 95 % confidence sequences, which are valid at every look."""
    rows = []
    for (name, arm), sequence in arm_counts.bounded.items():
        if sequence.mean is not None:
            low, high = sequence.interval
            meaning = arm_counts.guard_set.bounded[name]
            rows.append(
                {"measure": name, "meaning": meaning, "arm": arm, "mean": sequence.mean, "low": low, "high": high}
            )
    return rows


def _shadow(arm_counts: ArmCounts) -> list[dict[str, Any]]:
    words = dict(arm_counts.guard_set.shown) | {
        measure: f"words that change if only the {stage} is the candidate's"
        for stage, measure in arm_counts.guard_set.halves
    }
    rows = []
    for measure, meaning in words.items():
        if (cell := arm_counts.interval(measure)) is not None:
            rows.append({"measure": measure, "meaning": meaning, "mean": cell[0], "low": cell[1], "high": cell[2]})
    return rows
