"""Counts of requests without a result, by cause."""

import threading
from collections import Counter

from speechpipe.errors import SpeechpipeError


class Refusals:
    """Counts refused requests. Thread-safe; `counts` may be read on any thread."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, error: SpeechpipeError) -> None:
        """Count a request that ended with `error`."""
        self.add_cause(error.cause)

    def add_cause(self, cause: str) -> None:
        """As `add`, for requests that are refused below the application."""
        with self._lock:
            self.counts[cause] += 1
