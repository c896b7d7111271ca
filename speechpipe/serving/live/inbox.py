"""The inbox of a live stream: received audio and commands in order, with their times of arrival."""

import threading
import time
from collections import deque

from speechpipe.serving.live import Command, Fail, Finish

MERGED_BYTES = 1024
"""Small pieces of audio are merged up to this size, so that single bytes do not waste memory."""

PIECE_BYTES = 64 * 1024


class Inbox:
    """A queue of audio and commands. Thread-safe. The caller must bound it by `buffered_bytes` and `len`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: deque[tuple[float, bytes | Command]] = deque()  # (time.monotonic() of the arrival, item)
        self.buffered_bytes = 0
        self.received_bytes = 0
        self._oldest_audio: float | None = None
        self.ended = False  # Finish or Fail was put: nothing is taken after it

    def __len__(self) -> int:
        return len(self._items)

    def put_audio(self, data: bytes) -> bool:
        """Add audio; return False, without adding it, if the end was put before."""
        now = time.monotonic()
        with self._lock:
            if self.ended:
                return False
            self.received_bytes += len(data)
            self.buffered_bytes += len(data)
            if self._items and isinstance(last := self._items[-1][1], bytes) and len(last) + len(data) <= MERGED_BYTES:
                self._items[-1] = (self._items[-1][0], last + data)
                return True
            # In pieces, because the rest of a long one is copied by every `take`.
            self._items.extend((now, data[at : at + PIECE_BYTES]) for at in range(0, len(data), PIECE_BYTES))
            if self._oldest_audio is None:
                self._oldest_audio = now
            return True

    def put(self, command: Command) -> bool:
        """Add a command behind the audio; return False, without adding it, if the end was put before."""
        with self._lock:
            if self.ended:
                return False
            self.ended = isinstance(command, Finish | Fail)
            self._items.append((time.monotonic(), command))
            return True

    @property
    def audio_is_next(self) -> bool:
        """Whether `take` would return audio."""
        with self._lock:
            return bool(self._items) and isinstance(self._items[0][1], bytes)

    def take(self, most_bytes: int) -> bytes | Command | None:
        """Remove and return the next command, or up to `most_bytes` of the audio before it; None if empty."""
        with self._lock:
            if not self._items:
                return None
            arrived, first = self._items.popleft()
            if not isinstance(first, bytes):
                return first
            parts, size = [first], len(first)
            while self._items and size < most_bytes and isinstance(part := self._items[0][1], bytes):
                arrived = self._items.popleft()[0]
                parts.append(part)
                size += len(part)
            data = b"".join(parts) if len(parts) > 1 else first
            if size > most_bytes:
                data, rest = data[:most_bytes], data[most_bytes:]
                self._items.appendleft((arrived, rest))  # keep its time of arrival
            self.buffered_bytes -= len(data)
            self._oldest_audio = self._first_audio() if self.buffered_bytes else None
            return data

    def drop_audio(self) -> int:
        """Drop the waiting audio and keep the commands; return the number of bytes dropped."""
        with self._lock:
            dropped, self.buffered_bytes, self._oldest_audio = self.buffered_bytes, 0, None
            self._items = deque(item for item in self._items if not isinstance(item[1], bytes))
            return dropped

    def close(self) -> None:
        """Drop everything, and accept nothing more."""
        with self._lock:
            self.ended = True
            self._items.clear()
            self.buffered_bytes, self._oldest_audio = 0, None

    def waiting_s(self, now: float) -> float:
        """Return for how long the oldest audio has waited, in seconds; `now` is time.monotonic()."""
        oldest = self._oldest_audio
        return max(0.0, now - oldest) if oldest is not None else 0.0

    def _first_audio(self) -> float | None:
        return next((arrived for arrived, item in self._items if isinstance(item, bytes)), None)
