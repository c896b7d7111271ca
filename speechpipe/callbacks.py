"""Calls to clients whose uploads a person has answered: tried again until they are reached, for about a day."""

import json
import logging
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence

from speechpipe.errors import InvalidParameter
from speechpipe.monitor.database import STORE_ERRORS
from speechpipe.review.jobs import Job, Jobs

TIMEOUT_S = 10.0
LOOK_S = 1.0
MOST_URL = 2000

log = logging.getLogger(__name__)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An answer elsewhere is no answer: what is allowed was said of one address."""

    def redirect_request(self, *_: object) -> None:
        """Follow nothing."""


def allowed(url: str, prefixes: Sequence[str]) -> str:
    """Return the URL if an operator allows calls to it.

    Raises:
        InvalidParameter: nobody does: a server that calls whatever it is told reaches what its clients cannot.
    """
    plain = len(url) <= MOST_URL and url.isascii() and url.isprintable() and " " not in url and "@" not in url
    if not plain or not any(url.startswith(prefix) for prefix in prefixes):
        message = "this server calls no such address; its operator allows them with SPEECHPIPE_CALLBACKS"
        raise InvalidParameter(message, param="callback", cause="callback_not_allowed")
    return url


class Callbacks:
    """A thread that calls; which calls are due stands in the store."""

    def __init__(self, jobs: Jobs, body: Callable[[Job], dict[str, object]]) -> None:
        self._jobs = jobs
        self._body = body
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._closing = threading.Event()
        self._wake = threading.Event()
        self.counts: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name="callbacks", daemon=True)

    def start(self) -> None:
        """Begin to call."""
        self._thread.start()

    def close(self) -> None:
        """Stop; what is due stays in the store."""
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(TIMEOUT_S)

    def nudge(self) -> None:
        """Look at once."""
        self._wake.set()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(LOOK_S)
            self._wake.clear()
            try:
                for job in self._jobs.due():
                    if self._closing.is_set():
                        return
                    self._jobs.called(job, reached=self._call(job))
            except STORE_ERRORS as error:
                log.warning("callbacks wait for the store: %s", error)
                self._closing.wait(5.0)

    def _call(self, job: Job) -> bool:
        request = urllib.request.Request(  # noqa: S310 - only what `allowed` let through
            job.callback,
            json.dumps(self._body(job)).encode(),
            {"Content-Type": "application/json", "User-Agent": "speechpipe", "X-Speechpipe-Id": job.id},
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT_S):
                self.counts["sent"] += 1
                return True
        except (OSError, ValueError) as error:
            self.counts["failed"] += 1
            log.warning("the callback of %s failed (try %d): %s", job.id, job.callback_tries + 1, error)
            return False
