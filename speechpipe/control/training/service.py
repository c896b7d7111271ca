"""The training service of a running server: background tasks that follow the policy and run jobs, one at a time.

The training itself runs in a process of its own at the lowest priority. After a restart, a server with the same state
directory continues it from its last checkpoint.
"""

import logging
import socket
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from speechpipe.control.review.service import reviewing_of
from speechpipe.control.review.tasks import Kind as SegmentKind
from speechpipe.control.rollout.operations import RolloutOperations
from speechpipe.control.rollout.service import RolloutService
from speechpipe.control.training import Job, Request, State
from speechpipe.control.training.dataset import recipe_for
from speechpipe.control.training.operations import TrainingOperations
from speechpipe.control.training.policy import Decision, Facts, Firing, Policy, decide, read_policy
from speechpipe.control.training.runner import Run
from speechpipe.errors import BadInput, Conflict, InvalidParameter, SpeechpipeError
from speechpipe.foundation.background import BackgroundTask
from speechpipe.foundation.storage.database import translating_store_errors
from speechpipe.monitor.blame.operations import LOOKBACK_S, BlameOperations
from speechpipe.monitor.exposition import GaugeRow, by_cause
from speechpipe.monitor.reference import pinned
from speechpipe.monitor.repository import Archive
from speechpipe.serving.health.service import monitoring_of
from speechpipe.serving.service import Service

TICK_S = 1.0
POLICY_EVERY_S = 5.0
WEEK_S = 7 * 86_400.0
NOTHING = Decision(None, "no_policy", "there is no policy")
ACTOR = "policy"

log = logging.getLogger(__name__)


OperationsOf = Callable[[Callable[[Callable[[RolloutOperations], object]], object]], TrainingOperations]


class TrainingService:
    """Created after the rollout service; started and closed with the server."""

    def __init__(self, service: Service, rollouts: RolloutService, operations_of: OperationsOf) -> None:
        """Follow the jobs of a service. `operations_of` creates their operations, given a function that calls another
        with the rollout operations under their lock.

        Raises:
            InvalidParameter: the policy cannot be read; later, only the background task would fail.
        """
        store = service.store
        assert store is not None, "retrainings need a store"
        self._service = service
        try:
            self.policy()
        except BadInput as error:
            raise InvalidParameter(error.message, param="retrain_policy") from error
        self._rollouts = rollouts
        self._archive = Archive(lambda: store.engine)
        self._blame = BlameOperations(monitoring_of(service).spec, store)
        self._owner = f"{socket.gethostname()}:{service.settings.state_dir.resolve()}"[-128:]
        self.operations = operations_of(self._with_rollouts)
        self._run: tuple[Job, Run] | None = None
        self._lock = threading.RLock()
        self.decision = NOTHING
        self.counts: Counter[str] = Counter()
        self._working = BackgroundTask("retraining", self._work, every_s=TICK_S)
        self._looking = BackgroundTask("retraining-policy", self._look, every_s=POLICY_EVERY_S)
        service.tasks.add(self._working, self._looking)
        service.exposition.add_gauges(self._gauges())

    # ---- lifetime ----

    def start(self) -> None:
        """Start the background tasks."""
        self._working.start()
        self._looking.start()

    def close(self) -> None:
        """Stop; a running training stops at its last checkpoint and continues after the next start."""
        self._looking.close()
        self._working.close(30.0)
        if self._run is not None:
            self._run[1].stop()

    def _work(self) -> None:
        with suppress(Conflict):  # another server was faster: the next tick reads the result
            self.tick()

    def _look(self) -> None:
        with suppress(Conflict):
            self.look()

    @property
    def failure(self) -> str:
        """Why the jobs or the policy cannot be followed at present; empty if they can."""
        failing = [task.last_failure for task in (self._working.status, self._looking.status) if task.failing]
        return failing[0] if failing else ""

    # ---- the tick ----

    def tick(self) -> None:
        """Follow the running training, or start a waiting one; start the rollout of a candidate that is ready.

        Raises:
            Conflict: another server was faster.
            SpeechpipeError, SQLAlchemyError, OSError: the store cannot be used.
        """
        with self._lock:
            if self._run is not None:
                self._follow(*self._run)
            elif (job := self._next()) is not None:
                self._begin(job)
            for job in self.operations.waiting()[:1]:  # the newest: it was trained on the most data
                active = self._rollouts.state.active
                if active is None or active.held:
                    self.operations.enter(job)

    def _next(self) -> Job | None:
        with translating_store_errors():
            open_ = self.operations.jobs.listed((State.RUNNING, State.WAITING))
        for job in reversed(open_):
            try:
                with translating_store_errors():
                    return self.operations.jobs.claim(job, self._owner)
            except Conflict:
                continue
        return None

    def _begin(self, job: Job) -> None:
        try:
            self._run = (job, self.operations.begin(job))
        except (SpeechpipeError, OSError) as error:
            self.operations.fail(job, error)
            self.counts["failed"] += 1
            return
        self.counts["begun"] += 1

    def _follow(self, job: Job, run: Run) -> None:
        ended = run.poll()
        if ended is None:
            with translating_store_errors():
                now = self.operations.jobs.beat(job)
            over_budget = 0 < job.request.budget_s < run.seconds + float(now.outcome.get("seconds", 0.0))
            if now.state is State.RUNNING and now.owner == self._owner and not over_budget:
                return
            run.stop()
            if over_budget:
                with translating_store_errors():
                    self.operations.jobs.stop(
                        job.id, ACTOR, f"its budget of {job.request.budget_s / 3600:.1f} h is used up"
                    )
            ended = run.poll()
            assert ended is not None
        self._run = None
        done = self.operations.end(job, ended, run.seconds)
        self.counts[done.state.value] += 1
        self._rollouts.wake()

    def _with_rollouts(self, act: Callable[[RolloutOperations], object]) -> object:
        with self._rollouts.locked():
            found = act(self._rollouts.operations)
        self._rollouts.wake()
        return found

    # ---- the policy ----

    def look(self) -> Decision:
        """Evaluate the policy, and request a retraining if it says so; return the decision."""
        policy = self.policy()
        decision = NOTHING if policy is None else decide(policy, self._facts())
        if (decision.cause, decision.reason) != (self.decision.cause, self.decision.reason):
            self.counts[f"policy_{decision.cause}"] += 1
            log.info("retraining: %s (%s)", decision.reason, decision.cause)
        self.decision = decision
        if decision.begin is not None and policy is not None:
            self._ask(policy, decision)
        return decision

    def policy(self) -> Policy | None:
        """Read the policy from its file; None without one.

        Raises:
            BadInput: it cannot be read.
        """
        path = self._service.settings.retrain_policy
        return read_policy(path) if path is not None else None

    def _ask(self, policy: Policy, decision: Decision) -> None:
        assert decision.begin is not None
        left_h = policy.budget_h - self._spent_h()
        request = Request(
            decision.begin,
            self._service.engine.champion.id,
            since=self._service.clock() - policy.reviews_days * 86_400.0,
            check=policy.check,
            replay=policy.replay,
            seed=policy.seed,
            by=ACTOR,
            reason=decision.reason,
            plan=policy.plan,
            approval=policy.approval,
            budget_s=max(60.0, left_h * 3600.0),
        )
        self.operations.ask(request)

    def _facts(self) -> Facts:
        champion = self._service.engine.champion
        with translating_store_errors():
            alarms = self._alarms(champion.id)
            jobs = self.operations.jobs.listed(most=1)
            last = jobs[0] if jobs else None
            last_at = last.created_at if last is not None else 0.0
            reviews = self._reviews(last_at) if alarms else 0
        active = self._rollouts.state.active
        return Facts(
            now=self._service.clock(),
            champion=champion.id,
            recipe=recipe_for(champion),
            alarms=alarms,
            reviews=reviews,
            last_at=last_at,
            spent_h=self._spent_h(),
            busy=f"retraining {last.id}" if last is not None and not last.state.over else "",
            rollout=f"rollout {active.id} of {active.candidate}" if active is not None else "",
        )

    def _alarms(self, champion: str) -> list[Firing]:
        """Return the firing alarms of the champion, with the stage that blame names now."""
        firing = [
            alarm.condition
            for alarm in self._archive.alarms()
            if alarm.state == "firing" and champion in alarm.condition.group.split()
        ]
        verdicts = self._blamed({condition.group for condition in firing})
        return [
            Firing(condition.metric, condition.severity, condition.group, *verdicts.get(condition.group, ("", "")))
            for condition in firing
        ]

    def _blamed(self, labels: set[str]) -> dict[str, tuple[str, str]]:
        """Return group label -> (blamed stage, reason) for the champion's groups, computed now."""
        now = self._service.clock()
        found = {}
        for group, reference in pinned(self._archive.references()).items():
            if group.label in labels:
                verdict = self._blame.verdict(group, reference, max(now - LOOKBACK_S, reference.until), now)
                found[group.label] = (verdict.label, verdict.reason)
        return found

    def _reviews(self, since: float) -> int:
        if self._service.reviews is None:
            return 0
        finished = reviewing_of(self._service).operations.task_stats.finished(since)
        return sum(said.kind is SegmentKind.SPEECH for task in finished for said in task.work)

    def _spent_h(self) -> float:
        with translating_store_errors():
            jobs = self.operations.jobs.listed(since=self._service.clock() - WEEK_S)
        return sum(float(job.outcome.get("seconds", 0.0)) for job in jobs) / 3600.0

    # ---- state ----

    def facts(self) -> dict[str, Any]:
        """Return this server's own state, beyond what is in the store, as JSON data."""
        running = self._run
        return {
            "running": None if running is None else {"id": running[0].id, **running[1].progress},
            "policy": {"cause": self.decision.cause, "reason": self.decision.reason},
            "failure": self.failure,
        }

    def _gauges(self) -> tuple[GaugeRow, ...]:
        def running() -> list[tuple[tuple[str, ...], float]]:
            return [((), 1.0 if self._run is not None else 0.0)]

        return (
            GaugeRow("retraining_running", "Whether a training runs on this server.", running),
            by_cause("retrainings_total", "Retrainings and policy decisions, by outcome.", self.counts),
        )
