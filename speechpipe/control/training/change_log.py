"""Retrainings that have ended as changes of the service."""

from collections.abc import Callable

from sqlalchemy import Engine

from speechpipe.control.training import Job, State
from speechpipe.control.training.repository import Retrainings
from speechpipe.monitor.change_log import ChangeSource, ServiceChange

MOST_S = 14 * 86_400.0
"""No retraining takes longer."""


def training_changes(engine: Callable[[], Engine]) -> ChangeSource:
    """Return the source of ended retrainings. It raises SQLAlchemyError if the database cannot be used."""
    jobs = Retrainings(engine)

    def changes(since: float, until: float) -> list[ServiceChange]:
        ended = jobs.listed([state for state in State if state.over], since - MOST_S)
        return [_change(job) for job in ended if since <= job.changed_at < until]

    return changes


def _change(job: Job) -> ServiceChange:
    reason = job.history[-1]["reason"] if job.history else ""
    judged = f", {job.outcome['judgement']}" if "judgement" in job.outcome else ""
    text = f"retraining {job.id} ({job.request.kind}) of {job.request.bundle} is {job.state.value}{judged}: {reason}"
    return ServiceChange(job.changed_at, f"retraining {job.id} {job.revision}", text)
