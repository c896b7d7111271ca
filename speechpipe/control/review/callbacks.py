"""Callbacks to clients whose uploads a reviewer has answered, retried for about a day."""

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from speechpipe.control.review.job_repository import Job, Jobs
from speechpipe.errors import DeliveryFailed, InvalidParameter
from speechpipe.foundation.background import BackgroundTask
from speechpipe.foundation.outgoing import AllowedUrls, Receiver, receiver_of

LOOK_S = 1.0
REST_S = 30.0
"""A receiver that did not answer in time is not called for this long."""

AT_ONCE = 8
"""Calls in progress at the same time, at most one to each receiver."""

OF_ONE_TENANT = 2
"""Of these, calls for one tenant, so that slow receivers of one tenant do not delay the callbacks of others."""

log = logging.getLogger(__name__)


class Post(Protocol):
    """Protocol of the sender (`outgoing.Sender`)."""

    def post(self, url: str, body: bytes, headers: dict[str, str]) -> None:
        """Send a request.

        Raises:
            DeliveryFailed: it was not accepted.
        """


class Callbacks:
    """A background task that has the callbacks made that are due. The store has their state and number of tries.

    The calls are made on threads of a pool, because a receiver may take seconds to answer.

    Args:
        jobs: the jobs of the store. Each callback is claimed there first, so that one of several servers makes it.
        body: returns the body of a job's callback.
        allowed: URL prefixes that may be called: checked when an upload names a URL, and before each call.
        sender: sends the requests.
    """

    def __init__(
        self, jobs: Jobs, body: Callable[[Job], dict[str, object]], allowed: Sequence[str], sender: Post
    ) -> None:
        """Read the allowed URLs.

        Raises:
            InvalidParameter: an entry of `allowed` is not the beginning of an http or https URL.
        """
        self._jobs = jobs
        self._body = body
        self._allowed = AllowedUrls(allowed)
        self._sender = sender
        self._lock = threading.Lock()  # of the following four
        self._resting: dict[Receiver, float] = {}  # monotonic time until which it is not called
        self._calling: dict[Receiver, str] = {}  # the tenant of each call in progress
        self._unforeseen: list[BaseException] = []
        self.counts: Counter[str] = Counter()
        self._pool = ThreadPoolExecutor(AT_ONCE, "callback")
        self.task = BackgroundTask("callbacks", self.look, every_s=LOOK_S)

    @property
    def in_progress(self) -> int:
        """Calls in progress."""
        with self._lock:
            return len(self._calling)

    def checked(self, url: str) -> str:
        """Return `url` if the operator allows callbacks to it.

        Raises:
            InvalidParameter: it is not allowed. Otherwise clients could reach addresses that only this server can.
        """
        if url not in self._allowed:
            message = "callbacks to this URL are not allowed; the operator allows URLs with SPEECHPIPE_CALLBACKS"
            raise InvalidParameter(message, param="callback", cause="callback_not_allowed")
        return url

    def start(self) -> None:
        """Start the background task."""
        self.task.start()

    def close(self) -> None:
        """Stop the background task and wait for the calls in progress; what is due stays in the store."""
        self.task.close()
        self._pool.shutdown()

    def wake(self) -> None:
        """Check at once for callbacks that are due."""
        self.task.wake()

    def look(self) -> None:
        """Begin the callbacks that are due and whose receivers are free. Runs on the background task's thread.

        Raises:
            SQLAlchemyError, OSError: the store cannot be used.
            Exception: what an earlier call raised unforeseen; all others that are due have been begun.
        """
        for job in self._jobs.due():
            if self.task.closing:
                return
            receiver = receiver_of(job.callback)
            if self._rests(receiver):
                self._jobs.postpone(job, REST_S)
            elif self._reserve(receiver, job.tenant):
                self._begin(job, receiver)
        with self._lock:
            unforeseen = self._unforeseen.pop() if self._unforeseen else None
        if unforeseen is not None:
            raise unforeseen

    def _rests(self, receiver: Receiver) -> bool:
        with self._lock:
            now = time.monotonic()
            self._resting = {key: until for key, until in self._resting.items() if until > now}
            return receiver in self._resting

    def _reserve(self, receiver: Receiver, tenant: str) -> bool:
        """Reserve the receiver for one call; False if it or all places are taken."""
        with self._lock:
            of_tenant = sum(other == tenant for other in self._calling.values())
            if receiver in self._calling or len(self._calling) >= AT_ONCE or of_tenant >= OF_ONE_TENANT:
                return False
            self._calling[receiver] = tenant
            return True

    def _begin(self, job: Job, receiver: Receiver) -> None:
        claimed = None
        try:
            claimed = self._jobs.claim(job)
            if claimed is not None:
                future = self._pool.submit(self._call, claimed, receiver)
                future.add_done_callback(lambda done: self._ended(receiver, done))
        finally:
            if claimed is None:
                self._ended(receiver, None)

    def _ended(self, receiver: Receiver, call: "Future[None] | None") -> None:
        error = call.exception() if call is not None else None
        with self._lock:
            del self._calling[receiver]
            if error is not None:
                self._unforeseen.append(error)
        if call is not None:
            self.task.wake()  # the receiver's next callback may be due

    def _call(self, job: Job, receiver: Receiver) -> None:
        """Make a claimed call and record its result. Runs on a thread of the pool."""
        reached = False
        try:
            self.checked(job.callback)  # the setting may have changed since
            self._sender.post(job.callback, json.dumps(self._body(job)).encode(), {"X-Speechpipe-Id": job.id})
            reached = True
        except (DeliveryFailed, InvalidParameter) as error:
            log.warning("the callback of %s failed (try %d): %s", job.id, job.callback_tries, error)
            with self._lock:
                self.counts[error.cause] += 1
                if error.cause == "timeout":
                    self._resting[receiver] = time.monotonic() + REST_S
        else:
            with self._lock:
                self.counts["sent"] += 1
        self._jobs.called(job, reached=reached)
