"""Waiting until a container's decoder, which runs on its own thread, has decoded all that it was fed."""

import time

from speechpipe.cascade.audio.stream_decoder import WireDecoder
from speechpipe.types import Notice

DRAIN_S = 10.0
"""If a decoder outputs nothing for so long, it is no longer waited for."""


class Drain:
    """The drain of one stream's decoder. Used by one thread at a time."""

    def __init__(self, decoder: WireDecoder) -> None:
        """Wait for `decoder`, which has been fed nothing yet."""
        self._decoder = decoder
        self._fed = False  # since the last drain began
        self._active_at = 0.0  # time.monotonic() when it last had output, or when the drain began
        self._notified = False

    def feeding(self) -> None:
        """The decoder is being fed."""
        self._fed = True

    @property
    def settled(self) -> bool:
        """After a call of `done`: whether it would return True now."""
        return self._decoder.drained or self._overdue

    @property
    def _overdue(self) -> bool:
        return not self._decoder.has_samples and time.monotonic() - self._active_at >= DRAIN_S

    def done(self) -> bool:
        """Start a drain if the decoder was fed, and return whether all its complete frames were decoded and taken.

        Also returns True, with a notice to the client, if the decoder had no output for `DRAIN_S`.
        """
        if self._fed:
            self._fed, self._notified, self._active_at = False, False, time.monotonic()
            self._decoder.drain()
        if self._decoder.drained:
            return True
        if self._decoder.has_samples:
            self._active_at = time.monotonic()
        if not self._overdue:
            return False
        if not self._notified:
            self._notified = True
            message = f"{self._decoder.held_bytes} bytes were not decoded within {DRAIN_S:g} s"
            notice = Notice("audio_not_awaited", f"{message}: the next command was executed without them")
            self._decoder.notices.append(notice)
        return True
