"""The reviewer of a request, and the tasks that it may see."""

from collections.abc import Callable
from typing import Any

from fastapi import Request

from speechpipe.control.review import documents as review_documents
from speechpipe.control.review.service import ReviewService, reviewing_of
from speechpipe.control.review.task_repository import Reviewer
from speechpipe.control.review.tasks import Task
from speechpipe.serving.engine import Service


class ReviewContext:
    """The reviewer of a request with the review service."""

    def __init__(self, reviewing: ReviewService, who: Reviewer) -> None:
        self.reviewing = reviewing
        self.who = who

    def task(self, id_: str) -> Task:
        """Return a task that this reviewer may see; see `ReviewOperations.task` for errors."""
        return self.reviewing.operations.task(id_, self.who)

    def shown(self, task: Task) -> dict[str, Any]:
        """Return a task as the reviewer sees it."""
        return review_documents.task(task, self.reviewing.policy_cache.policy(task.tenant).doubt)

    def row(self, task: Task) -> dict[str, Any]:
        """Return a task as a row of a list; `audio_here`: whether this server has its audio."""
        return review_documents.row(task) | {"audio_here": self.reviewing.audio.path(task.id) is not None}


def context_of(service: Service) -> Callable[..., ReviewContext]:
    """Return the dependency that gives routes the context."""

    def context(request: Request) -> ReviewContext:
        return ReviewContext(reviewing_of(service), request.state.who)

    return context
