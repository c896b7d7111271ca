"""Waiting until a container's decoder, which has a thread of its own, has given everything that it was fed."""

import time

from speechpipe.cascade.audio.stream_decoder import WireDecoder
from speechpipe.types import Notice

DRAIN_S = 10.0
"""A decoder that gives nothing for so long is not waited for any longer."""


class Drain:
    """Of one stream; used on its lane."""

    def __init__(self, decoder: WireDecoder) -> None:
        """Wait for `decoder`, which has been fed nothing yet."""
        self._decoder = decoder
        self._fed = False  # since it was asked last
        self._since = 0.0  # time.monotonic() when it gave something last, or was asked
        self._said = False

    def feeding(self) -> None:
        """Note that the decoder is fed."""
        self._fed = True

    @property
    def settled(self) -> bool:
        """After `done` was asked: whether it would be true now."""
        return self._decoder.drained or self._overdue

    @property
    def _overdue(self) -> bool:
        return not self._decoder.has_samples and time.monotonic() - self._since >= DRAIN_S

    def done(self) -> bool:
        """Whether everything that was fed has been taken, as far as its bytes are whole; asks for it where it has not.

        True too where the decoder gave nothing for `DRAIN_S`: then the client is told that it was not waited for.
        """
        if self._fed:
            self._fed, self._said, self._since = False, False, time.monotonic()
            self._decoder.drain()
        if self._decoder.drained:
            return True
        if self._decoder.has_samples:
            self._since = time.monotonic()
        if not self._overdue:
            return False
        if not self._said:
            self._said = True
            message = f"{self._decoder.held_bytes} bytes were not decoded in {DRAIN_S:g} s"
            notice = Notice("audio_not_awaited", f"{message}: what was to be done after them was done without them")
            self._decoder.notices.append(notice)
        return True
