"""Training operations on a store: request, start, follow, and start the candidate's rollout. No server is needed."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.control.review.operations import ReviewOperations
from speechpipe.control.rollout.operations import RolloutOperations
from speechpipe.control.rollout.plan import Plan, parse, template
from speechpipe.control.training import Job, Judgement, Request, State
from speechpipe.control.training.candidate import release
from speechpipe.control.training.dataset import checked, prepare
from speechpipe.control.training.job_spec import RESULT, read_result
from speechpipe.control.training.repository import Retrainings
from speechpipe.control.training.runner import Ended, Run, clean
from speechpipe.errors import Conflict, SpeechpipeError
from speechpipe.foundation.storage.database import translating_store_errors
from speechpipe.foundation.storage.store import Store
from speechpipe.foundation.text_files import naming, read_text

ACTOR = "speechpipe retrain"
WAITS = "waits"
"""The `rollout` of an outcome: the candidate is ready and waits for another rollout to end."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Places:
    """Folders: of trainings, of models and cards, and of the reviews' audio."""

    work: Path
    models: Path
    audio: Path


class TrainingOperations:
    """Not thread-safe. Every method raises `StoreUnavailable` if the store cannot be used."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        places: Places,
        rollouts: Callable[[Callable[[RolloutOperations], object]], object],
        guards: dict[str, float],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`rollouts(fn)` calls `fn` with the rollout operations under their owner's lock."""
        self._catalogue = catalogue
        self._places = places
        self._rollouts = rollouts
        self._guards = guards
        self._reviews = ReviewOperations(store, clock)
        self.jobs = Retrainings(lambda: store.engine, clock)

    def ask(self, request: Request, owner: str = "") -> Job:
        """Store a request after checking that it can be carried out.

        Raises:
            BadInput, UnknownName, InvalidParameter: it cannot.
            Conflict: another retraining of the bundle is in progress.
        """
        bundle = checked(request, self._catalogue)
        with translating_store_errors():
            return self.jobs.add(replace(request, bundle=bundle.id), owner)

    def folder(self, job: Job) -> Path:
        """Return the folder of a job's training."""
        return (self._places.work / f"{job.id}").resolve()

    def begin(self, job: Job) -> Run:
        """Start or continue the training of a claimed job.

        Raises:
            SpeechpipeError, OSError: it cannot be started.
        """
        bundle = checked(job.request, self._catalogue)
        folder = self.folder(job)
        if (result := read_result(folder)) is not None and result.error:
            (folder / RESULT).unlink()  # it failed, and is tried again
        with translating_store_errors():
            tasks = self._reviews.task_stats.finished(job.request.since, tenant=job.request.tenant or None)
            prepare(job.request, bundle, tasks, self._places.audio.resolve(), folder)
        return Run(folder)

    def end(self, job: Job, ended: Ended, seconds: float) -> Job:
        """Store the result of a training, make the candidate's cards, and start its rollout."""
        seconds += float(job.outcome.get("seconds", 0.0))
        if ended.stopped:
            reason = ended.said or "it can be continued from its last checkpoint"
            return self._ended(job, State.STOPPED, reason, {"seconds": seconds})
        result = ended.result
        if result is None or result.error:
            message = result.error if result is not None else f"the training process failed: {ended.said[-500:]}"
            cause = result.cause if result is not None else "process"
            return self._ended(job, State.FAILED, message, {"seconds": seconds, "cause": cause})
        outcome = {
            "seconds": seconds,
            "judgement": result.judgement.value,
            "reason": result.reason,
            "figures": dict(result.figures),
            "data": dict(result.data),
        }
        try:
            candidate = release(job.request, result, self.folder(job), self._places.models, self._catalogue)
        except (SpeechpipeError, OSError) as error:
            return self._ended(job, State.FAILED, f"the card cannot be written: {error}", {**outcome, "cause": "card"})
        clean(self.folder(job))
        done = self._ended(job, State.DONE, result.reason, {**outcome, "candidate": candidate, "rollout": WAITS})
        return self.enter(done)

    def fail(self, job: Job, error: Exception) -> Job:
        """Store that a job could not be started."""
        cause = error.cause if isinstance(error, SpeechpipeError) else "error"
        return self._ended(job, State.FAILED, str(error), {"cause": cause})

    def _ended(self, job: Job, state: State, reason: str, outcome: dict[str, object]) -> Job:
        log.info("retraining %d of %s is %s: %s", job.id, job.request.bundle, state.value, reason)
        with translating_store_errors():
            newest = self.jobs.job(job.id)
            if newest.state is state:  # an operator stopped it, and it has stopped
                return self.jobs.tell(newest, outcome, newest.history[-1]["reason"])
            return self.jobs.end(newest, state, ACTOR, reason, {**newest.outcome, **outcome})

    def enter(self, job: Job) -> Job:
        """Start the candidate's rollout in shadow; a candidate that is no better than the champion is held there.

        If another rollout is in progress, the candidate waits.
        """
        outcome = job.outcome
        candidate, reason = str(outcome["candidate"]), str(outcome["reason"])
        held = outcome["judgement"] != Judgement.BETTER.value

        def start(operations: RolloutOperations) -> None:
            operations.start(self._plan(candidate, job.request), ACTOR)
            if held:
                operations.hold(ACTOR, reason)

        try:
            self._rollouts(start)
        except Conflict as error:
            log.info("%s waits: %s", candidate, error)
            return job
        except SpeechpipeError as error:
            with translating_store_errors():
                return self.jobs.tell(job, {"rollout": "refused"}, f"{candidate} is refused: {error.message}")
        said = "held at shadow" if held else "at shadow"
        with translating_store_errors():
            return self.jobs.tell(job, {"rollout": said}, f"{candidate} is {said}: {reason}")

    def _plan(self, candidate: str, request: Request) -> Plan:
        if not request.plan:
            plan = parse(template("replace", candidate, self._guards), self._guards)
            return replace(plan, approval=request.approval)
        with naming(request.plan):
            plan = parse(read_text(Path(request.plan), cause="bad_plan"), self._guards)
        return replace(plan, candidate=candidate)

    def waiting(self) -> list[Job]:
        """Return jobs whose candidates wait for another rollout to end, newest first."""
        with translating_store_errors():
            return [job for job in self.jobs.listed((State.DONE,), most=20) if job.outcome.get("rollout") == WAITS]
