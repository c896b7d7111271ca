"""What a client sent and nobody has worked on yet, audio and commands in their order."""

import threading
import time
from collections import deque

from speechpipe.live import Command


class Inbox:
    """Thread-safe. Bounded by whoever fills it: `buffered_bytes` says how full it is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: deque[bytes | Command] = deque()
        self.buffered_bytes = 0
        self.received_bytes = 0
        self._since: float | None = None

    def __len__(self) -> int:
        return len(self._items)

    def put_audio(self, data: bytes) -> None:
        """Add audio as it came."""
        with self._lock:
            self._items.append(data)
            self.received_bytes += len(data)
            self.buffered_bytes += len(data)
            if self._since is None:
                self._since = time.monotonic()

    def put(self, command: Command) -> None:
        """Add a command; it takes its turn after the audio before it."""
        with self._lock:
            self._items.append(command)

    @property
    def audio_is_next(self) -> bool:
        """Whether `take` would return audio."""
        with self._lock:
            return bool(self._items) and isinstance(self._items[0], bytes)

    def take(self, most_bytes: int) -> bytes | Command | None:
        """Take the next command, or up to so many bytes of the audio before it; None if nothing waits."""
        with self._lock:
            if not self._items:
                return None
            first = self._items.popleft()
            if not isinstance(first, bytes):
                return first
            parts, size = [first], len(first)
            while self._items and size < most_bytes and isinstance(self._items[0], bytes):
                part = self._items.popleft()
                assert isinstance(part, bytes)
                parts.append(part)
                size += len(part)
            data = b"".join(parts) if len(parts) > 1 else first
            if size > most_bytes:
                data, rest = data[:most_bytes], data[most_bytes:]
                self._items.appendleft(rest)
            self.buffered_bytes -= len(data)
            self._since = time.monotonic() if self.buffered_bytes else None
            return data

    def waiting_s(self, now: float) -> float:
        """Return for how long audio has waited."""
        since = self._since
        return now - since if since is not None else 0.0
