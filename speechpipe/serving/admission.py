"""Which uploads are taken: so many at once, and so many of one caller."""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator

from speechpipe.cascade.workers import PoolStatus
from speechpipe.config import Settings
from speechpipe.errors import NotReady, Overloaded, RateLimited


class Admission:
    """Thread-safe."""

    def __init__(
        self,
        settings: Settings,
        status: Callable[[], PoolStatus],
        started: Callable[[], bool],
        unavailable: Callable[[], str],
    ) -> None:
        """`status` is asked for the queue, `unavailable` for why nobody can work on an upload (empty: somebody can)."""
        self._settings = settings
        self._unavailable = unavailable
        self._status = status
        self._started = started
        self._lock = threading.Lock()
        self._uploads: Counter[str] = Counter()

    @contextlib.contextmanager
    def admitted(self, caller: str) -> Iterator[None]:
        """Hold a place for one upload of `caller`.

        Raises:
            NotReady: the models are not warm, no worker can be started, or the server is shutting down.
            Overloaded: as many uploads run as may run at once.
            RateLimited: this caller has as many as one caller may have.
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
        """Refuse now what `admitted` would refuse, before a body has been read for nothing."""
        settings = self._settings
        if not self._started():
            raise NotReady("the recognizers are loading, or the server is shutting down")
        if reason := self._unavailable():
            raise NotReady(reason)
        if self._uploads.total() >= settings.max_uploads:
            message = f"{settings.max_uploads} uploads are in progress; try again later"
            raise Overloaded(message, retry_after_s=self._retry_after_s())
        if settings.max_uploads_per_key and self._uploads[caller] >= settings.max_uploads_per_key:
            raise RateLimited(f"this key has {settings.max_uploads_per_key} uploads in progress")

    def _retry_after_s(self) -> float:
        """Return how long the waiting audio takes at a tenth of real time per worker: a fair guess, not a promise."""
        status = self._status()
        return max(1.0, round(status.queued_s * 0.1 / max(status.ready_workers, 1)))

    @property
    def uploads(self) -> int:
        """Uploads in progress."""
        return self._uploads.total()
