"""What one client is still to be told. Partial results are replaced by newer ones; everything else lasts, is
numbered, and is kept so that a client whose connection broke can have what it missed.
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
"""Lasting messages kept for a client that comes back; as many may wait for one that does not read."""


@dataclass(frozen=True, slots=True)
class Goodbye:
    """Nothing follows; close the connection with this code."""

    code: int
    reason: str


class Outbox:
    """Thread-safe. One reader at a time: a new one takes over from the last.

    It is the only place that knows whether a client is connected: a connection is there while it is the reader.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._detached_at: float | None = time.monotonic()  # None while there is a reader
        self._confirmed = False
        self._kept: deque[tuple[int, str]] = deque(maxlen=KEPT)
        self._seq = 0  # of the last lasting message
        self._sent = 0  # of the last one that was taken
        self._partials: dict[int, Message] = {}
        self._goodbye: Goodbye | None = None
        self._on_ready: Callable[[], None] | None = None
        self._reader = 0
        self._told = False  # the reader knows that there is something
        self.overflowed = False
        self.superseded = 0  # partial results that a newer one replaced before they were sent
        self.replayed = 0

    def put(self, message: Message) -> None:
        """Add a message that must arrive; it gets a number in `message["speechpipe"]["seq"]`."""
        with self._lock:
            self._seq += 1
            message.setdefault("speechpipe", {})["seq"] = self._seq
            if len(self._kept) == KEPT and self._kept[0][0] > self._sent:
                self.overflowed = True
            self._kept.append((self._seq, json.dumps(message)))
            self._wake()

    def put_partial(self, channel: int, message: Message) -> None:
        """Add a message that a newer one of its channel may replace."""
        with self._lock:
            self.superseded += channel in self._partials
            self._partials[channel] = message
            self._wake()

    def forget_partial(self, channel: int) -> None:
        """Drop what would come too late."""
        with self._lock:
            self.superseded += self._partials.pop(channel, None) is not None

    def close(self, goodbye: Goodbye) -> None:
        """Say that nothing follows."""
        with self._lock:
            self._goodbye = goodbye
            self._wake()

    def _wake(self) -> None:
        if self._on_ready is not None and not self._told:
            self._told = True
            self._on_ready()

    # ---- the reader ----

    def attach(self, on_ready: Callable[[], None], after: int | None = None) -> int:
        """Become the reader; `after` is the last number it has seen, None for a new client.

        A reader that is there is woken: its next `take` returns None.

        Raises:
            InvalidParameter: what follows `after` is not kept any more, or was never said; nothing has changed then.
        """
        with self._lock:
            if after is not None:
                self._check(after)
                self.replayed += max(0, self._sent - after)
                self._sent = after
            replaced, self._on_ready, self._told = self._on_ready, on_ready, True
            self._reader += 1
            self._detached_at = None
            self._confirmed = False
            reader = self._reader
        if replaced is not None:
            replaced()
        return reader

    def check(self, after: int) -> None:
        """Refuse what `attach` would refuse.

        Raises:
            InvalidParameter: what follows `after` is not kept any more, or was never said.
        """
        with self._lock:
            self._check(after)

    def _check(self, after: int) -> None:
        oldest = self._kept[0][0] if self._kept else self._seq + 1
        if not oldest - 1 <= after <= self._seq:
            message = f"last_seq {after} cannot be continued; kept are {oldest} to {self._seq}"
            raise InvalidParameter(message, param="last_seq", cause="resume_impossible")

    def is_reader(self, reader: int) -> bool:
        """Whether no other reader has taken over."""
        return reader == self._reader

    def detach(self, reader: int) -> bool:
        """Stop reading; False if another reader has taken over, which goes on."""
        with self._lock:
            if reader != self._reader:
                return False
            if self._detached_at is None:
                self._detached_at = time.monotonic()
            self._on_ready = None
            return True

    def take(self, reader: int) -> list[str] | Goodbye | None:
        """Return what is to be sent now, then the goodbye; None if another reader has taken over."""
        with self._lock:
            if reader != self._reader:
                return None
            texts = [text for seq, text in self._kept if seq > self._sent] if self._sent < self._seq else []
            self._sent = self._seq
            texts += [json.dumps(message) for message in self._partials.values()]
            self._partials.clear()
            if not texts and self._goodbye is not None:
                return self._goodbye
            self._told = self._goodbye is not None
            return texts

    def confirm(self, reader: int) -> None:
        """Note that the client answered the goodbye: it has had everything before it."""
        with self._lock:
            if reader == self._reader and self._goodbye is not None and self._sent == self._seq:
                self._confirmed = True

    # ---- facts ----

    @property
    def detached_at(self) -> float | None:
        """When the last reader went (time.monotonic()), or when this was made if there was none; None: one is there."""
        return self._detached_at

    @property
    def had_reader(self) -> bool:
        """Whether a client has ever been connected."""
        return self._reader > 0

    @property
    def drained(self) -> bool:
        """Whether everything, the goodbye too, has been taken; it may not have arrived."""
        with self._lock:
            return self._goodbye is not None and self._sent == self._seq

    @property
    def confirmed(self) -> bool:
        """Whether the client has had everything, the goodbye too."""
        return self._confirmed
