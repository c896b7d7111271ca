"""Who reviews, and which tasks they may see."""

from collections.abc import Callable
from typing import Any

from fastapi import Request

from speechpipe.control.review import documents as review_documents
from speechpipe.control.review.service import ReviewService, reviewing_of
from speechpipe.control.review.task_repository import Reviewer
from speechpipe.control.review.tasks import Task
from speechpipe.serving.engine import Service


class ReviewContext:
    """Who asks, and what they may do."""

    def __init__(self, reviewing: ReviewService, who: Reviewer) -> None:
        self.reviewing = reviewing
        self.who = who

    def task(self, id_: str) -> Task:
        """Return a task of theirs."""
        return self.reviewing.operations.task(id_, self.who)

    def shown(self, task: Task) -> dict[str, Any]:
        """Return it as they see it."""
        return review_documents.task(task, self.reviewing.book.policy(task.tenant).doubt)

    def row(self, task: Task) -> dict[str, Any]:
        """Return it as a line of a list; `audio_here`: this server has its audio and hands it out."""
        return review_documents.row(task) | {"audio_here": self.reviewing.audio.path(task.id) is not None}


def context_of(service: Service) -> Callable[..., ReviewContext]:
    """Return the dependency of routes that want to know."""

    def context(request: Request) -> ReviewContext:
        return ReviewContext(reviewing_of(service), request.state.who)

    return context
