"""The status of a rollout as a JSON document, for the command line, the API and the dashboard."""

from collections.abc import Mapping
from typing import Any

from speechpipe.control.rollout import Status
from speechpipe.control.rollout.documents import EVIDENCE
from speechpipe.control.rollout.plan import Step
from speechpipe.control.rollout.repository import Entry
from speechpipe.control.rollout.routes import Rollout, RouteState
from speechpipe.serving.assignment import CHAMPION

ASKS = {
    Status.WAITING: "it waits for your approval: `speechpipe rollout approve`",
    Status.PAUSED: "it is paused: `speechpipe rollout resume`",
}


def status(
    state: RouteState, shown: Mapping[str, Any] | None, server: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the route, its rollout with the evidence (`RolloutOperations.shown`), and a server's own state."""
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
