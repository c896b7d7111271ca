"""The review service of a running server: policies, sampling of sessions, retention of audio, and callbacks.

If the store is down, the last known policies apply. Results that must wait for a reviewer are stored or refused.
"""

import hashlib
import logging
import queue
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from speechpipe.cascade.audio.retention import AudioRecorder, AudioRetention
from speechpipe.config import Settings
from speechpipe.control.review import ReviewReason, TaskState
from speechpipe.control.review.callbacks import Callbacks
from speechpipe.control.review.changes import ChangeChecks, PolicyChange
from speechpipe.control.review.drafts import draft
from speechpipe.control.review.hotwords import HotwordLists, HotwordService
from speechpipe.control.review.job_repository import Job
from speechpipe.control.review.operations import ReviewOperations
from speechpipe.control.review.policy_cache import PolicyCache, no_prior
from speechpipe.control.review.policy_repository import Scoped
from speechpipe.control.review.sampling import Drawn, disagreeing, drawn
from speechpipe.control.review.scopes import Scopes
from speechpipe.control.review.task_repository import Reviewer
from speechpipe.control.review.tasks import Draft, Task
from speechpipe.errors import NotReady, SpeechpipeError, StoreUnavailable, UnknownName
from speechpipe.foundation.background import BackgroundTask
from speechpipe.foundation.outgoing import Sender
from speechpipe.foundation.stats.calibration import Prior
from speechpipe.foundation.storage.database import STORE_ERRORS, translating_store_errors
from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.storage.store import Store
from speechpipe.monitor.exposition import GaugeRow, by_cause
from speechpipe.serving.automation import Degree
from speechpipe.serving.automation.policy import EffectivePolicy, Policy
from speechpipe.serving.hooks import CompletedSession
from speechpipe.serving.service import Service
from speechpipe.serving.signing import signing_secret

LOOK_S = 1.0
JUDGE_EVERY_S = 15.0
SWEEP_EVERY_S = 60.0
HOUR_S = 3600.0
ABANDONED_S = 3600.0
"""Audio whose session was never decided on, because the process was killed, is deleted after this long."""

MOST_PENDING = 500
MOST_SPOKEN = 1000
"""Ended live sessions that may wait for the sampling decision; further ones are counted and not reviewed."""

DISAGREES = 0.25
"""Share of the words that must differ for a shadow bundle to disagree."""

log = logging.getLogger(__name__)


class ReviewService:
    """Thread-safe. Shares the lifetime of the server."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        emit: Callable[[Record], None],
        clock: Callable[[], float],
        prior: Callable[[str], Prior] = no_prior,
    ) -> None:
        """Load the copy of the policies; the store is read by `start`. `prior`: see `PolicyCache`."""
        base = Policy(Degree(settings.default_degree))
        self.operations = ReviewOperations(store, clock, base=base, on_done=self._done)
        self.audio = AudioRetention(settings.state_dir / "reviews", settings.keep_review_audio_days * 24.0, clock=clock)
        self._keep_audio_s = settings.keep_review_audio_days * 86_400.0
        self._settings = settings
        self._store = store
        self._emit = emit
        self._clock = clock
        self.policy_cache = PolicyCache(self.operations, settings.state_dir / "automation.json", clock, prior)
        keys = {*settings.api_keys, *settings.operator_keys, *settings.reviewer_keys}
        scopes = Scopes(lambda: store.engine, keys, settings.enterprise_tenants)
        self._checks = ChangeChecks(self.operations.automation, scopes, clock)
        self.hotword_lists = HotwordService(HotwordLists(lambda: store.engine, clock), scopes)
        self._pending: OrderedDict[str, tuple[CompletedSession, EffectivePolicy]] = OrderedDict()  # may still disagree
        self._spoken: queue.Queue[tuple[Sequence[CompletedSession], EffectivePolicy, bool]] = queue.Queue(MOST_SPOKEN)
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        sender = Sender(
            signing_secret(settings) if settings.callbacks else b"", guarded=True, networks=settings.callback_networks
        )
        self.callbacks = Callbacks(self.operations.jobs, self.operations.callback_body, settings.callbacks, sender)
        self._following = BackgroundTask("reviews", self._follow, every_s=LOOK_S)
        self._judging = BackgroundTask("review-calibration", self.policy_cache.judge, every_s=JUDGE_EVERY_S)
        self._sweeping = BackgroundTask("review-retention", self.sweep, every_s=SWEEP_EVERY_S)
        self.tasks = (self._following, self._judging, self._sweeping, self.callbacks.task)

    # ---- lifetime ----

    def start(self) -> None:
        """Read the policies and start the background tasks."""
        try:
            self.policy_cache.refresh()
            self.hotword_lists.refresh()
        except (SpeechpipeError, *STORE_ERRORS) as error:
            log.warning("the automation policies cannot be read, the last known apply: %s", error)
        for task in self.tasks:
            task.start()

    def close(self) -> None:
        """Stop the background tasks, then decide on the live sessions that have ended."""
        for task in self.tasks:
            task.close()
        while not self._spoken.empty():
            try:
                self._take_spoken()
            except (SpeechpipeError, *STORE_ERRORS) as error:
                log.warning("a live session cannot be reviewed: %s", error)

    def _follow(self) -> None:
        self._take_spoken()
        self.policy_cache.refresh()
        self.hotword_lists.refresh()

    @property
    def failure(self) -> str:
        """Why the policies cannot be read at present; empty if they can."""
        status = self._following.status
        return status.last_failure if status.failing else ""

    def sweep(self) -> None:
        """Delete expired audio, tasks and jobs, and close tasks that are older than the retention of audio.

        Only age closes a task: audio that is not here may be on another server, or in a folder that is unavailable.
        """
        now = self._clock()
        quiet = self.audio.quiet(ABANDONED_S)
        with self._lock:
            pending = set(self._pending)
        for start in range(0, len(quiet), 500):
            some = quiet[start : start + 500]
            known = self.operations.task_stats.known(some)
            for session_id in set(some) - known - pending:
                self.audio.drop(session_id)
                self.counts["audio_abandoned"] += 1
        self.audio.sweep()
        self.counts["expired"] += self.operations.queue.expire(now - self._keep_audio_s)
        before = now - self._settings.keep_reviews_days * 86_400.0
        self.operations.task_stats.forget(before)
        self.operations.jobs.forget(before)

    # ---- before a session ----

    def terms(self, tenant: str, bundle_id: str) -> EffectivePolicy:
        """Return the policy for a new session, from memory."""
        return self.policy_cache.terms(tenant, bundle_id)

    def hotwords(self, tenant: str) -> tuple[str, ...]:
        """Return the hotwords of a tenant's list, from memory."""
        return self.hotword_lists.of(tenant)

    def hold(self, session_id: str) -> AudioRecorder | None:
        """Return the recorder of a session's audio, which is kept until the sampling decision; None if it cannot be."""
        return self.audio.open(session_id)

    # ---- after a session ----

    def take(
        self, sessions: Sequence[CompletedSession], terms: EffectivePolicy, job: Job | None = None, *, shadowed: bool
    ) -> bool:
        """Decide which sessions of an upload, or whether a live one (no `job`), are reviewed; return whether to wait.

        Args:
            sessions: one for each channel.
            terms: the policy that applied when they began.
            job: the upload's job, stored if it must wait.
            shadowed: a shadow bundle gets the sessions too, and may disagree.

        Raises:
            StoreUnavailable: the result must wait for a reviewer and cannot be stored.
        """
        found = [(session, drawn(draft(session), terms, live=job is None)) for session in sessions]
        waits = any(one.waits for _, one in found)
        picked = [(session, one) for session, one in found if waits or one.why is not None]
        left = [session for session, _ in found if session.id not in {mine.id for mine, _ in picked}]
        for session in left:
            self._leave(session, terms, shadowed=shadowed)
        if not picked:
            return False
        try:
            tasks = [self._task(session, one, terms, job if waits else None) for session, one in picked]
            self.operations.add(tasks, job if waits else None)
        except (StoreUnavailable, OSError) as error:
            for session in sessions:
                self.audio.drop(session.id)
            self.counts["not_stored"] += 1
            if waits:
                raise StoreUnavailable(f"this result needs a reviewer and cannot be stored: {error}") from error
            return False
        for task in tasks:
            if task.state is TaskState.UNASKED:
                self.audio.drop(task.id)
            else:
                self.counts[task.why] += 1
        return waits

    def spoken(self, sessions: Sequence[CompletedSession], terms: EffectivePolicy, *, shadowed: bool) -> None:
        """Queue live sessions for the sampling decision on the background thread. Never blocks."""
        try:
            self._spoken.put_nowait((sessions, terms, shadowed))
        except queue.Full:
            self.counts["queue_full"] += 1
            self.discard([session.id for session in sessions])

    def _take_spoken(self) -> None:
        while True:
            try:
                sessions, terms, shadowed = self._spoken.get_nowait()
            except queue.Empty:
                return
            try:
                self.take(sessions, terms, shadowed=shadowed)
            except BaseException:
                self.counts["not_stored"] += 1
                self.discard([session.id for session in sessions])
                raise

    def _leave(self, session: CompletedSession, terms: EffectivePolicy, *, shadowed: bool) -> None:
        if not shadowed or not terms.followed:
            self.audio.drop(session.id)
            return
        with self._lock:
            self._pending[session.id] = (session, terms)
            old = self._pending.popitem(last=False)[0] if len(self._pending) > MOST_PENDING else None
        if old is not None:
            self.audio.drop(old)

    def discard(self, session_ids: Sequence[str]) -> None:
        """Delete the audio of sessions that ended without a result."""
        for session_id in session_ids:
            self.audio.drop(session_id)

    def compared(self, record: Record) -> None:
        """Handle a shadow bundle's result: where it disagrees, the session may be reviewed."""
        with self._lock:
            session, terms = self._pending.pop(record.session_id, (None, None))
        disagrees = record.number("shadow.difference") > DISAGREES
        try:
            if session is None or terms is None:
                known = self.policy_cache.terms(record.tenant)
                if disagrees and known.followed:
                    self.operations.queue.raise_chance(record.session_id, known.policy.disagreement_share)
                return
            found = disagreeing(draft(session), terms) if disagrees else Drawn(Draft(), None)
            if found.why is None:
                self.audio.drop(session.id)
                return
            self.operations.add([self._task(session, found, terms, None)], None)
            self.counts[ReviewReason.DISAGREEMENT] += 1
        except (SpeechpipeError, *STORE_ERRORS) as error:
            self.counts["not_stored"] += 1
            log.warning("a disagreement cannot be stored: %s", error)

    def _task(self, session: CompletedSession, found: Drawn, terms: EffectivePolicy, job: Job | None) -> Task:
        path = self.audio.path(session.id)
        if path is None:
            raise OSError(f"the audio of {session.id} could not be stored")
        return Task(
            id=session.id,
            job=job.id if job is not None else "",
            tenant=session.tenant,
            channel=session.channel,
            bundle=session.bundle.id if session.bundle is not None else "",
            degree=terms.degree,
            why=found.why or ReviewReason.DEGREE,
            priority=found.priority,
            state=TaskState.OPEN if found.why is not None else TaskState.UNASKED,
            created_at=self._clock(),
            duration_s=session.duration_s,
            audio_hash=hashlib.sha256(path.read_bytes()).hexdigest(),
            draft=found.draft,
        )

    # ---- reviewers ----

    def claim(self, reviewer: Reviewer) -> Task | None:
        """Lease the most urgent task whose audio is on this server to a reviewer; None if there is none.

        Other tasks are left for the server that has their audio, and counted each time.
        """

        def here(id_: str) -> bool:
            found = self.audio.path(id_) is not None
            self.counts["audio_not_here"] += not found
            return found

        with translating_store_errors():
            return self.operations.queue.claim(reviewer, here)

    def audio_of(self, task: Task) -> Path:
        """Return the file with a task's audio.

        Raises:
            UnknownName: it was deleted (`audio_expired`), or it is not on this server (`audio_not_here`).
        """
        path = self.audio.path(task.id)
        if path is not None:
            return path
        dropped = task.state in (TaskState.EXPIRED, TaskState.UNASKED)
        if dropped or task.created_at < self._clock() - self._keep_audio_s:
            raise UnknownName(f"the audio of {task.id} was deleted: its retention time is over", cause="audio_expired")
        self.counts["audio_not_here"] += 1
        raise UnknownName(
            f"the audio of {task.id} is not on this server: ask the one that handed out the task, or let the servers "
            "share the folder reviews of their state directories",
            cause="audio_not_here",
        )

    def _done(self, task: Task) -> None:
        """Emit the feedback record of an answered task, and wake the callbacks."""
        self.callbacks.wake()
        if (record := self.operations.feedback(task)) is not None:
            self._emit(record)

    def set(self, scope: str, changes: Mapping[str, Any], actor: str, reason: str, revision: int | None) -> Scoped:
        """Change a policy; it applies to new sessions when this returns.

        Raises:
            InvalidParameter, Conflict, StoreUnavailable: it cannot be changed.
        """
        with translating_store_errors():
            found = self.operations.automation.set(scope, changes, actor, reason, revision=revision)
            self.policy_cache.refresh()
        return found

    def change(self, scope: str, wanted: PolicyChange) -> tuple[str, Scoped]:
        """Change a policy on a request from a page or client; return the resolved scope and the policy.

        Raises:
            UnknownName: there is no such tenant.
            InvalidParameter: a value is invalid; the reason is missing or contains a key; or the change lowers
                automation for all tenants and is not confirmed: the message then states its effect.
            Conflict, StoreUnavailable: it cannot be changed now.
        """
        with translating_store_errors():
            scope = self._checks.scope(scope, wanted)
        return scope, self.set(scope, wanted.changes, wanted.actor, wanted.reason.strip(), wanted.revision)

    def effect(self, scope: str, changes: Mapping[str, Any]) -> str:
        """Return the effect of a change that needs confirmation; empty if it needs none.

        Raises:
            InvalidParameter: a value is invalid.
            StoreUnavailable: the store cannot be read.
        """
        with translating_store_errors():
            return self._checks.effect(scope, changes)

    def gauges(self) -> tuple[GaugeRow, ...]:
        """Return the rows of the Prometheus exposition."""
        return (
            by_cause("reviews_total", "Reviews requested by reason, and failures by cause.", self.counts),
            by_cause("callbacks_total", "Callbacks to clients: sent, or failed by cause.", self.callbacks.counts),
            by_cause("review_audio_failures_total", "Audio for reviews that could not be stored.", self.audio.failed),
        )


def reviewing_of(service: Service) -> ReviewService:
    """Return the review service of a server.

    Raises:
        NotReady: it has none.
    """
    if not isinstance(service.reviews, ReviewService):
        raise NotReady("this server has no review service")
    return service.reviews
