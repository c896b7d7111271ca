"""Conversion between review tasks and their table rows."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import Row, Select

from speechpipe.control.review import TaskState
from speechpipe.control.review.tasks import AnswerSegment, Draft, DraftSegment, Kind, Task
from speechpipe.foundation.storage.schema import review_tasks


def said_row(said: AnswerSegment) -> dict[str, Any]:
    """Return an answer segment as JSON data."""
    return {"start": said.start_s, "end": said.end_s, "text": said.text, "kind": said.kind.value, "of": list(said.of)}


def task_row(task: Task) -> dict[str, Any]:
    """Return the table row of a task."""
    plain = ("id", "job", "tenant", "channel", "bundle", "degree", "why", "priority", "state", "revision")
    rest = ("created_at", "duration_s", "audio_hash", "lease", "reviewer", "leased_until", "work_s", "finished_at")
    return {
        **{name: getattr(task, name) for name in (*plain, *rest)},
        "state": task.state.value,
        "draft": asdict(task.draft),
        "work": [said_row(said) for said in task.work],
        "compared": dict(task.compared),
        "skips": list(task.skips),
    }


def read_task(row: Row[Any]) -> Task:
    """Return the task of a table row."""
    values = dict(row._mapping)
    draft = values.pop("draft")
    pieces = tuple(DraftSegment(**piece) for piece in draft.pop("pieces"))
    work = tuple(
        AnswerSegment(item["start"], item["end"], item["text"], Kind(item["kind"]), tuple(item["of"]))
        for item in values.pop("work")
    )
    return Task(**{**values, "state": TaskState(values["state"]), "draft": Draft(pieces, **draft), "work": work})


def of_tenant(query: Select[Any], tenant: str | None) -> Select[Any]:
    """Return a query restricted to one tenant; None: unchanged."""
    return query if tenant is None else query.where(review_tasks.c.tenant == tenant)
