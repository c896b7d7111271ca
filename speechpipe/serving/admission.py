"""Admission of uploads: limits the uploads in progress, in total and for each caller."""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator

from speechpipe.cascade.workers import PoolStatus
from speechpipe.config import Settings
from speechpipe.errors import NotReady, Overloaded, RateLimited
from speechpipe.serving.readiness import Readiness


class Admission:
    """Counts the uploads in progress. Thread-safe."""

    def __init__(self, settings: Settings, readiness: Readiness, status: Callable[[], PoolStatus]) -> None:
        """Limit uploads as `settings` say; `status` returns the state of the pool for uploads."""
        self._settings = settings
        self._readiness = readiness
        self._status = status
        self._lock = threading.Lock()
        self._uploads: Counter[str] = Counter()

    @contextlib.contextmanager
    def admitted(self, caller: str) -> Iterator[None]:
        """Hold a place for one upload of `caller` during the block.

        Raises:
            NotReady: the models are loading, no worker can be started, or the server is shutting down.
            Overloaded: the limit of uploads in progress is reached.
            RateLimited: this caller's limit is reached.
        """
        with self._lock:
            self.check(caller)
            self._uploads[caller] += 1
        try:
            yield
        finally:
            with self._lock:
                self._uploads[caller] -= 1

    def check(self, caller: str) -> None:
        """Raise what `admitted` would raise, so that a request can be refused before its body is read."""
        settings = self._settings
        if not self._readiness.started:
            raise NotReady("the recognizers are loading, or the server is shutting down")
        if reason := self._readiness.unavailable:
            raise NotReady(reason)
        if self.full:
            message = f"{settings.max_uploads} uploads are in progress; try again later"
            raise Overloaded(message, retry_after_s=self._retry_after_s())
        if settings.max_uploads_per_key and self._uploads[caller] >= settings.max_uploads_per_key:
            raise RateLimited(f"this key has {settings.max_uploads_per_key} uploads in progress")

    @property
    def full(self) -> bool:
        """Whether the limit of uploads in progress is reached."""
        return self._uploads.total() >= self._settings.max_uploads

    def _retry_after_s(self) -> float:
        """Estimate when the waiting audio is decoded, at ten times real time per worker."""
        status = self._status()
        return max(1.0, round(status.queued_s * 0.1 / max(status.ready_workers, 1)))

    @property
    def uploads(self) -> int:
        """Number of uploads in progress."""
        return self._uploads.total()
