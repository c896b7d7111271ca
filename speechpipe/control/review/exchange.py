"""Export of reviews to other tools, and import of answers, with the result of each."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from speechpipe.control.review import TaskState, label_studio, training_manifest
from speechpipe.control.review.operations import ReviewOperations
from speechpipe.control.review.task_repository import Reviewer
from speechpipe.control.review.tasks import Task
from speechpipe.errors import InvalidParameter, SpeechpipeError, UnknownName

FORMATS = ("label-studio", "manifest")


@dataclass
class Outcome:
    """The result of an import: counts by cause, and the refused answers."""

    counts: Counter[str] = field(default_factory=Counter)
    refused: list[dict[str, str]] = field(default_factory=list)


def exported(
    operations: ReviewOperations, form: str, audio_of: "AudioOf", tenant: str | None = None, since: float = 0.0
) -> Iterator[dict[str, Any]]:
    """Yield answered tasks (and open ones for Label Studio). Reviews may continue meanwhile.

    Raises:
        InvalidParameter: there is no such format.
        StoreUnavailable: the store cannot be read.
    """
    if form not in FORMATS:
        raise InvalidParameter(f"format must be one of {', '.join(FORMATS)}", param="format")
    if form == "label-studio":
        for task in operations.task_stats.listed([TaskState.OPEN], tenant, most=10_000):
            yield label_studio.exported(task, audio_of(task))
    for task in operations.task_stats.finished(since, tenant=tenant):
        if form == "label-studio":
            yield label_studio.exported(task, audio_of(task))
        else:
            yield from training_manifest.lines(task, audio_of(task))


class AudioOf:
    """Returns the URL or path of a task's audio: `base`, the task's id, `suffix`."""

    def __init__(self, base: str, suffix: str) -> None:
        self._base = base
        self._suffix = suffix

    def __call__(self, task: Task) -> str:
        """Return the URL or path."""
        return f"{self._base}{task.id}{self._suffix}"


def imported(operations: ReviewOperations, given: Any, reviewer: Reviewer) -> Outcome:
    """Import answers from Label Studio. Each is imported whole or refused with its cause, independently of the others.

    Raises:
        BadInput: `given` is not an export of Label Studio.
        StoreUnavailable: the store cannot be used; answers imported until then stay.
    """
    outcome = Outcome()
    for found in label_studio.read(given):
        try:
            task = operations.task(found.id, reviewer)
            if task.state.over:
                raise InvalidParameter(f"the review is {task.state} already", cause="repeated")
            if found.audio_hash != task.audio_hash:
                raise InvalidParameter("the audio is not the one that was exported", cause="audio_altered")
            operations.put(task, found.by, label_studio.answer(task, found))
        except UnknownName:
            _refuse(outcome, found.id, "unknown_id", "there is no such review")
        except SpeechpipeError as error:
            if error.cause == "store_unavailable":
                raise
            _refuse(outcome, found.id, error.cause, error.message)
        else:
            outcome.counts["imported"] += 1
    return outcome


def _refuse(outcome: Outcome, id_: str, cause: str, message: str) -> None:
    outcome.counts[cause] += 1
    outcome.refused.append({"id": id_, "cause": cause, "message": message})
