"""Bytes that live sessions hold together: messages, audio that waits, what FFmpeg has decoded."""

import threading

FREE_BYTES = 64 * 1024
"""What one session or connection may hold whatever the others hold: two seconds of 16-bit audio at 16 kHz."""


class ByteBudget:
    """A limit over all sessions and connections. Thread-safe."""

    def __init__(self, limit: int) -> None:
        """Allow `limit` bytes beyond `FREE_BYTES` for each holder."""
        self.limit = limit
        self._lock = threading.Lock()
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes held beyond what is free."""
        return self._held

    @property
    def exhausted(self) -> bool:
        """Whether nobody should take more than `FREE_BYTES` now."""
        return self._held >= self.limit

    def holder(self) -> "Holder":
        """Return the account of one session or connection."""
        return Holder(self)

    def _change(self, difference: int) -> None:
        with self._lock:
            self._held += difference


class Holder:
    """What one session or connection holds; used by one thread at a time."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._counted = 0

    def set(self, size: int) -> None:
        """Note how many bytes are held now; 0 at the end."""
        counted = max(0, size - FREE_BYTES)
        if counted != self._counted:
            self._budget._change(counted - self._counted)
            self._counted = counted

    @property
    def too_much(self) -> bool:
        """Whether this holder has more than is free to everybody, and all together have more than the limit."""
        return self._counted > 0 and self._budget.held > self._budget.limit
