"""A rollout and its evidence as JSON documents, for the history, the command line, the API and the dashboard."""

from collections.abc import Mapping
from typing import Any

from speechpipe.control.rollout import Mode, Status
from speechpipe.control.rollout.analysis import Evidence
from speechpipe.control.rollout.arm_counts import ArmCounts
from speechpipe.control.rollout.plan import Step
from speechpipe.control.rollout.repository import Entry
from speechpipe.control.rollout.routes import Rollout, RouteState
from speechpipe.serving.assignment import CANARY, CHAMPION, SHADOW

EVIDENCE = ("judgement", "reason", "more_sessions", "sample_ratio", "half", "guards")

ASKS = {
    Status.WAITING: "it waits for your approval: `speechpipe rollout approve`",
    Status.PAUSED: "it is paused: `speechpipe rollout resume`",
}


def status(
    state: RouteState, shown: Mapping[str, Any] | None, server: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the route, its rollout with the evidence so far (`RolloutOperations.shown`), and a server's own state."""
    document: dict[str, Any] = {
        "revision": state.revision,
        "champion": state.champion,
        "previous": state.previous or None,
        "came_from": state.came_from or None,
        "aliases": state.aliases,
        "rollout": None,
    }
    rollout = state.rollout
    if rollout is not None and shown is not None:
        per_hour = shown["sessions_per_hour"]
        more = shown["more_sessions"] if rollout.status.active else None
        document["rollout"] = {
            "id": rollout.id,
            "status": rollout.status.value,
            "case": rollout.plan.case,
            "champion": rollout.champion,
            "candidate": rollout.candidate,
            "candidate_hash": rollout.candidate_hash,
            "approval": rollout.plan.approval,
            "by": rollout.by,
            "started_at": rollout.started_at,
            "step": rollout.step,
            "steps": [_step(step) for step in rollout.plan.steps],
            "weight": rollout.weight,
            "reason": rollout.reason,
            "next": _next(rollout, shown, server or {}),
            "evidence": {name: shown[name] for name in EVIDENCE},
            "hours_needed": None if more is None or not per_hour else round(more / per_hour, 2),
            **{name: shown[name] for name in ("arms", "shadow", "means", "sessions_per_hour")},
        }
    if server is not None:
        document["server"] = dict(server)
    return document


def _next(rollout: Rollout, shown: Mapping[str, Any], server: Mapping[str, Any]) -> str:
    """Return what the rollout waits for and the command to continue; empty: none is needed, or it has ended."""
    back = "`speechpipe rollout rollback --reason WHY`"
    if rollout.held:
        return f"it is held; the next `speechpipe rollout start` ends it; or `speechpipe rollout resume`, or {back}"
    if rollout.status in ASKS:
        return f"{ASKS[rollout.status]}, or {back}"
    heard = any(arm["sessions"] for arm in shown["arms"] if arm["arm"] != CHAMPION)
    waits_s = (server.get("shadow") or {}).get("waiting_s")
    found = ""
    if rollout.status is Status.RUNNING:
        if server.get("missing"):
            found = f"{server['missing']}. Its cards may still arrive; without them the rollout ends"
        elif server.get("loading"):
            found = "the candidate is loading: it gets no sessions or copies until then"
        elif not heard:
            found = "no session of the candidate yet: a server must load it, and sessions must come"
        elif waits_s:
            found = f"{waits_s:g} s of audio wait for the candidate in shadow"
    return found


def _step(step: Step) -> dict[str, Any]:
    return {"label": step.label, "mode": step.mode.value, "weight": step.weight}


def entry(found: Entry) -> dict[str, Any]:
    """Return an entry of the history."""
    return {
        "at": found.at,
        "actor": found.actor,
        "action": found.action,
        "reason": found.reason,
        "bundle": found.bundle,
        "rollout": found.rollout,
        "revision": found.revision,
        "evidence": dict(found.evidence),
    }


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
