"""Calls to clients whose uploads a person has answered: tried again until they are reached, for about a day."""

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
"""A host that did not answer in time is left alone for so long: it must not hold up the calls to others."""

log = logging.getLogger(__name__)


class Post(Protocol):
    """What sends a request; raises DeliveryFailed (`outgoing.Sender`)."""

    def post(self, url: str, body: bytes, headers: dict[str, str]) -> None:
        """Send it."""


class Callbacks:
    """A background task that calls; which calls are due, and how often each was tried, stands in the store.

    Args:
        jobs: the store's jobs. Each call is claimed there first, so of several servers on a store one makes it.
        body: what a client is told about a job.
        allowed: URLs that may be called: asked when an upload names one, and again before each call.
        sender: makes the calls.
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
        self._resting: dict[str, float] = {}  # host and port -> until when it is not called
        self.counts: Counter[str] = Counter()
        self.task = BackgroundTask("callbacks", self.look, every_s=LOOK_S)

    def checked(self, url: str) -> str:
        """Return `url` if an operator allows calls to it.

        Raises:
            InvalidParameter: nobody does: a server that calls whatever it is told reaches what its clients cannot.
        """
        if url not in self._allowed:
            message = "this server calls no such address; its operator allows them with SPEECHPIPE_CALLBACKS"
            raise InvalidParameter(message, param="callback", cause="callback_not_allowed")
        return url

    def start(self) -> None:
        """Begin to call."""
        self.task.start()

    def close(self) -> None:
        """Stop; what is due stays in the store."""
        self.task.close()

    def wake(self) -> None:
        """Look at once."""
        self.task.wake()

    def look(self) -> None:
        """Make the calls that are due, the longest due first.

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
            self.checked(job.callback)  # the operator may have taken it back
            self._sender.post(job.callback, json.dumps(self._body(job)).encode(), {"X-Speechpipe-Id": job.id})
        except (DeliveryFailed, InvalidParameter) as error:
            self.counts[error.cause] += 1
            log.warning("the callback of %s failed (try %d): %s", job.id, job.callback_tries, error)
            if error.cause == "timeout":
                self._resting[host] = time.monotonic() + REST_S
            return False
        self.counts["sent"] += 1
        return True
