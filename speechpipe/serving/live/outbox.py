"""The outbox of a live stream: messages for its client.

Partial results are replaced by newer ones. All other messages are numbered and kept for a while, so that a client whose
connection was interrupted can receive what it missed.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from speechpipe.errors import InvalidParameter
from speechpipe.serving.live import Message

KEPT = 500
"""Numbered messages that are kept for a client that resumes; also the most that may wait for a client to read."""


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The end of the messages: close the connection with this code."""

    code: int
    reason: str


class Outbox:
    """Messages for one client. Thread-safe. It has one reader at a time; a new one replaces the last.

    A client is connected while it has a reader; there is no other record of that.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._detached_at: float | None = time.monotonic()  # None while there is a reader
        self._confirmed = False
        self._kept: deque[tuple[int, str]] = deque(maxlen=KEPT)
        self._seq = 0  # number of the last message
        self._sent = 0  # number of the last message taken by a reader
        self._partials: dict[int, Message] = {}
        self._goodbye: Goodbye | None = None
        self._on_ready: Callable[[], None] | None = None
        self._reader = 0
        self._notified = False  # `on_ready` was called since the last `take`
        self.overflowed = False
        self.superseded = 0  # partial results that a newer one replaced before they were sent
        self.replayed = 0

    def put(self, message: Message) -> None:
        """Add a message and number it, in `message["speechpipe"]["seq"]`."""
        with self._lock:
            self._seq += 1
            message.setdefault("speechpipe", {})["seq"] = self._seq
            if len(self._kept) == KEPT and self._kept[0][0] > self._sent:
                self.overflowed = True
            self._kept.append((self._seq, json.dumps(message)))
            self._wake()

    def put_partial(self, channel: int, message: Message) -> None:
        """Add a partial result; it replaces an older one of its channel that was not taken yet."""
        with self._lock:
            self.superseded += channel in self._partials
            self._partials[channel] = message
            self._wake()

    def forget_partial(self, channel: int) -> None:
        """Drop a partial result that was not taken yet, because its final follows."""
        with self._lock:
            self.superseded += self._partials.pop(channel, None) is not None

    def close(self, goodbye: Goodbye) -> None:
        """End the messages with `goodbye`."""
        with self._lock:
            self._goodbye = goodbye
            self._wake()

    def _wake(self) -> None:
        if self._on_ready is not None and not self._notified:
            self._notified = True
            self._on_ready()

    # ---- the reader ----

    def attach(self, on_ready: Callable[[], None], after: int | None = None) -> int:
        """Become the reader and return its number; `after` is the last message number received, None if new.

        An existing reader is woken, and its next `take` returns None.

        Raises:
            InvalidParameter: the messages after `after` are not kept any more, or `after` was never sent. Nothing has
                changed then.
        """
        with self._lock:
            if after is not None:
                self._check(after)
                self.replayed += max(0, self._sent - after)
                self._sent = after
            replaced, self._on_ready, self._notified = self._on_ready, on_ready, True
            self._reader += 1
            self._detached_at = None
            self._confirmed = False
            reader = self._reader
        if replaced is not None:
            replaced()
        return reader

    def check(self, after: int) -> None:
        """Raise what `attach` would raise.

        Raises:
            InvalidParameter: the messages after `after` are not kept any more, or `after` was never sent.
        """
        with self._lock:
            self._check(after)

    def _check(self, after: int) -> None:
        oldest = self._kept[0][0] if self._kept else self._seq + 1
        if not oldest - 1 <= after <= self._seq:
            message = f"cannot resume after last_seq {after}; messages {oldest} to {self._seq} are kept"
            raise InvalidParameter(message, param="last_seq", cause="resume_impossible")

    def is_reader(self, reader: int) -> bool:
        """Whether no other reader has taken over."""
        return reader == self._reader

    def detach(self, reader: int) -> bool:
        """Stop reading; return False, without effect, if another reader has taken over."""
        with self._lock:
            if reader != self._reader:
                return False
            if self._detached_at is None:
                self._detached_at = time.monotonic()
            self._on_ready = None
            return True

    def take(self, reader: int) -> list[str] | Goodbye | None:
        """Return the messages to send now, or the goodbye when there are none; None if another reader took over."""
        with self._lock:
            if reader != self._reader:
                return None
            texts = [text for seq, text in self._kept if seq > self._sent] if self._sent < self._seq else []
            self._sent = self._seq
            texts += [json.dumps(message) for message in self._partials.values()]
            self._partials.clear()
            if not texts and self._goodbye is not None:
                return self._goodbye
            self._notified = self._goodbye is not None
            return texts

    def confirm(self, reader: int) -> None:
        """The client has answered the close frame, so it has received all messages."""
        with self._lock:
            if reader == self._reader and self._goodbye is not None and self._sent == self._seq:
                self._confirmed = True

    # ---- facts ----

    @property
    def detached_at(self) -> float | None:
        """When the last reader left (time.monotonic()), or the time of creation; None while there is a reader."""
        return self._detached_at

    @property
    def had_reader(self) -> bool:
        """Whether a client has ever been connected."""
        return self._reader > 0

    @property
    def drained(self) -> bool:
        """Whether everything including the goodbye was taken by a reader; it may not have arrived."""
        with self._lock:
            return self._goodbye is not None and self._sent == self._seq

    @property
    def confirmed(self) -> bool:
        """Whether the client has received everything including the goodbye."""
        return self._confirmed
