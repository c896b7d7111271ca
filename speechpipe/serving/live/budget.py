"""The memory budget of all live sessions together: messages, waiting audio, decoded samples."""

import threading

FREE_BYTES = 64 * 1024
"""Bytes that each session or connection may always hold: two seconds of 16-bit audio at 16 kHz."""


class ByteBudget:
    """A limit of bytes over all sessions and connections. Thread-safe."""

    def __init__(self, limit: int) -> None:
        """Allow `limit` bytes beyond `FREE_BYTES` for each holder."""
        self.limit = limit
        self._lock = threading.Lock()
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes held beyond `FREE_BYTES` of each holder."""
        return self._held

    @property
    def exhausted(self) -> bool:
        """Whether no holder should take more than `FREE_BYTES` now."""
        return self._held >= self.limit

    def holder(self) -> "Holder":
        """Return a new holder for one session or connection."""
        return Holder(self)

    def _change(self, difference: int) -> None:
        with self._lock:
            self._held += difference


class Holder:
    """The bytes that one session or connection holds. Used by one thread at a time."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._counted = 0

    def set(self, size: int) -> None:
        """Set how many bytes are held now; 0 at the end."""
        counted = max(0, size - FREE_BYTES)
        if counted != self._counted:
            self._budget._change(counted - self._counted)
            self._counted = counted

    @property
    def too_much(self) -> bool:
        """Whether this holder exceeds `FREE_BYTES`, and all together exceed the limit."""
        return self._counted > 0 and self._budget.held > self._budget.limit
