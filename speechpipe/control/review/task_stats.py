"""Queries over review tasks: answered tasks, lists and counts."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Engine, Select, delete, func, select

from speechpipe.control.review import TaskState
from speechpipe.control.review.rows import of_tenant, read_task
from speechpipe.control.review.tasks import Task
from speechpipe.foundation.storage.schema import review_tasks as tasks


class TaskStats:
    """Thread-safe. Every method raises SQLAlchemyError if the database cannot be used."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine

    def finished(self, since: float = 0.0, until: float = float("inf"), tenant: str | None = None) -> Iterator[Task]:
        """Yield answered tasks in the order of their answers, from one consistent read."""
        query = select(tasks).where(tasks.c.state == TaskState.DONE, tasks.c.finished_at >= since)
        if until < float("inf"):
            query = query.where(tasks.c.finished_at < until)
        if tenant is not None:
            query = query.where(tasks.c.tenant == tenant)
        yield from self._each(query.order_by(tasks.c.finished_at, tasks.c.id))

    def listed(self, states: Sequence[TaskState], tenant: str | None = None, most: int = 100) -> list[Task]:
        """Return tasks in these states, most urgent first."""
        query = of_tenant(select(tasks).where(tasks.c.state.in_([state.value for state in states])), tenant)
        return list(self._each(query.order_by(tasks.c.priority.desc(), tasks.c.created_at).limit(most)))

    def counts(self, tenant: str | None = None) -> dict[str, Counter[str]]:
        """Return the number of tasks by state and reason."""
        query = select(tasks.c.state, tasks.c.why, func.count()).group_by(tasks.c.state, tasks.c.why)
        found: dict[str, Counter[str]] = {state.value: Counter() for state in TaskState}
        with self._engine().connect() as connection:
            for state, why, count in connection.execute(of_tenant(query, tenant)):
                found[state][why] += count
        return found

    def newest(self) -> float:
        """Return when the last answer came (unix seconds); 0 if there is none."""
        query = select(func.max(tasks.c.finished_at)).where(tasks.c.state == TaskState.DONE)
        with self._engine().connect() as connection:
            return float(connection.execute(query).scalar() or 0.0)

    def known(self, ids: Sequence[str]) -> set[str]:
        """Return which of these sessions have a task."""
        with self._engine().connect() as connection:
            return {row.id for row in connection.execute(select(tasks.c.id).where(tasks.c.id.in_(list(ids))))}

    def forget(self, before: float) -> int:
        """Delete tasks that were closed before that time; return how many."""
        with self._engine().begin() as connection:
            return connection.execute(delete(tasks).where(tasks.c.finished_at < before)).rowcount

    def _each(self, query: Select[Any]) -> Iterator[Task]:
        with self._engine().connect() as connection:
            for row in connection.execution_options(yield_per=500).execute(query):
                yield read_task(row)
