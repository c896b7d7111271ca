"""Callbacks to clients whose uploads a reviewer has answered, retried for about a day."""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import urlsplit

from speechpipe.control.review.job_repository import Job, Jobs
from speechpipe.errors import DeliveryFailed, InvalidParameter
from speechpipe.foundation.background import BackgroundTask
from speechpipe.foundation.outgoing import AllowedUrls

LOOK_S = 1.0
REST_S = 30.0
"""A host that timed out is not called for this long, so that it does not delay callbacks to others."""

log = logging.getLogger(__name__)


class Post(Protocol):
    """Protocol of the sender (`outgoing.Sender`)."""

    def post(self, url: str, body: bytes, headers: dict[str, str]) -> None:
        """Send a request.

        Raises:
            DeliveryFailed: it was not accepted.
        """


class Callbacks:
    """A background task that makes the callbacks that are due. The store has their state and number of tries.

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
        self._resting: dict[str, float] = {}  # host and port -> monotonic time until which it is not called
        self.counts: Counter[str] = Counter()
        self.task = BackgroundTask("callbacks", self.look, every_s=LOOK_S)

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
        """Stop the background task; what is due stays in the store."""
        self.task.close()

    def wake(self) -> None:
        """Check at once for callbacks that are due."""
        self.task.wake()

    def look(self) -> None:
        """Make the callbacks that are due, the longest due first. Runs on the background task's thread.

        Raises:
            SQLAlchemyError, OSError: the store cannot be used.
        """
        now = time.monotonic()
        self._resting = {host: until for host, until in self._resting.items() if until > now}
        for job in self._jobs.due():
            if self.task.closing:
                return
            host = urlsplit(job.callback).netloc
            if host in self._resting:
                self._jobs.postpone(job, REST_S)
                continue
            claimed = self._jobs.claim(job)
            if claimed is not None:
                self._jobs.called(claimed, reached=self._call(claimed, host))

    def _call(self, job: Job, host: str) -> bool:
        try:
            self.checked(job.callback)  # the setting may have changed since
            self._sender.post(job.callback, json.dumps(self._body(job)).encode(), {"X-Speechpipe-Id": job.id})
        except (DeliveryFailed, InvalidParameter) as error:
            self.counts[error.cause] += 1
            log.warning("the callback of %s failed (try %d): %s", job.id, job.callback_tries, error)
            if error.cause == "timeout":
                self._resting[host] = time.monotonic() + REST_S
            return False
        self.counts["sent"] += 1
        return True
