"""Retrainings as JSON data, for the API, the dashboard and the terminal."""

from typing import Any

from speechpipe.control.training import Job


def row(job: Job) -> dict[str, Any]:
    """Return a job as a row; `reason` is that of its last change."""
    outcome, last = job.outcome, job.history[-1] if job.history else {}
    return {
        "id": job.id,
        "kind": job.request.kind.value,
        "bundle": job.request.bundle,
        "state": job.state.value,
        "reason": str(outcome.get("reason") or last.get("reason") or job.request.reason),
        "by": job.request.by,
        "asked": job.request.reason,
        "source": job.request.source,
        "created_at": job.created_at,
        "changed_at": job.changed_at,
        "seconds": outcome.get("seconds"),
        "cause": outcome.get("cause"),
        "candidate": outcome.get("candidate"),
        "judgement": outcome.get("judgement"),
        "rollout": outcome.get("rollout"),
        "figures": outcome.get("figures", {}),
        "data": outcome.get("data", {}),
        "history": list(job.history),
    }
