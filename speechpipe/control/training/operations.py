"""What is done with retrainings: ask, begin, follow, and have the candidate enter at shadow. A store, no server."""

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
from speechpipe.foundation.storage.writer import Store
from speechpipe.foundation.text_files import read_text

ACTOR = "speechpipe retrain"
WAITS = "waits"
"""As `rollout` of an outcome: the candidate is ready, and another rollout is under way."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Places:
    """Where trainings work, where cards go, and where the audio of reviews is."""

    work: Path
    models: Path
    audio: Path


class TrainingOperations:
    """One thread at a time. Every method raises `StoreUnavailable` if the store cannot be used."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        places: Places,
        rollouts: Callable[[Callable[[RolloutOperations], object]], object],
        guards: dict[str, float],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`rollouts(act)` calls `act` with the operations of rollouts, under their owner's lock."""
        self._catalogue = catalogue
        self._places = places
        self._rollouts = rollouts
        self._guards = guards
        self._reviews = ReviewOperations(store, clock)
        self.jobs = Retrainings(lambda: store.engine, clock)

    def ask(self, request: Request, owner: str = "") -> Job:
        """Write a request down after a look at whether it can be done.

        Raises:
            BadInput, UnknownName, InvalidParameter: it cannot.
            Conflict: one is under way.
        """
        bundle = checked(request, self._catalogue)
        with translating_store_errors():
            return self.jobs.add(replace(request, bundle=bundle.id), owner)

    def folder(self, job: Job) -> Path:
        """Return where a job's training works."""
        return (self._places.work / f"{job.id}").resolve()

    def begin(self, job: Job) -> Run:
        """Start the training of a job that one has claimed, or go on with it.

        Raises:
            SpeechpipeError, OSError: it cannot begin.
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
        """Take what came of a training: cards of the candidate, which enters at shadow."""
        seconds += float(job.outcome.get("seconds", 0.0))
        if ended.stopped:
            reason = ended.said or "it can go on from its last checkpoint"
            return self._ended(job, State.STOPPED, reason, {"seconds": seconds})
        result = ended.result
        if result is None or result.error:
            message = result.error if result is not None else f"the process broke: {ended.said[-500:]}"
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
            return self._ended(job, State.FAILED, f"no card can be made: {error}", {**outcome, "cause": "card"})
        clean(self.folder(job))
        done = self._ended(job, State.DONE, result.reason, {**outcome, "candidate": candidate, "rollout": WAITS})
        return self.enter(done)

    def fail(self, job: Job, error: Exception) -> Job:
        """Say of a job that it cannot begin."""
        cause = error.cause if isinstance(error, SpeechpipeError) else "error"
        return self._ended(job, State.FAILED, str(error), {"cause": cause})

    def _ended(self, job: Job, state: State, reason: str, outcome: dict[str, object]) -> Job:
        log.info("retraining %d of %s is %s: %s", job.id, job.request.bundle, state.value, reason)
        with translating_store_errors():
            newest = self.jobs.job(job.id)
            if newest.state is state:  # somebody stopped it, and it did
                return self.jobs.tell(newest, outcome, newest.history[-1]["reason"])
            return self.jobs.end(newest, state, ACTOR, reason, {**newest.outcome, **outcome})

    def enter(self, job: Job) -> Job:
        """Start the candidate's rollout at shadow; one that is no better than the champion is held there.

        While another rollout is under way the candidate waits.
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
                return self.jobs.tell(job, {"rollout": "refused"}, f"{candidate} cannot enter: {error.message}")
        said = "held at shadow" if held else "at shadow"
        with translating_store_errors():
            return self.jobs.tell(job, {"rollout": said}, f"{candidate} is {said}: {reason}")

    def _plan(self, candidate: str, request: Request) -> Plan:
        if not request.plan:
            plan = parse(template("replace", candidate, self._guards), self._guards)
            return replace(plan, approval=request.approval)
        text = read_text(Path(request.plan), cause="bad_plan")
        return replace(parse(text, self._guards), candidate=candidate)

    def waiting(self) -> list[Job]:
        """Return jobs whose candidate waits for another rollout to end, the newest first."""
        with translating_store_errors():
            return [job for job in self.jobs.listed((State.DONE,), most=20) if job.outcome.get("rollout") == WAITS]
