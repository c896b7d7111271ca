"""Lingering connections: the client has its answer and is still sending, and its data is discarded for a while.

Closing with unread data resets the connection, and the client may never see its answer (RFC 9112, 9.6).
"""

import asyncio
from collections import OrderedDict

LINGER_S = 5.0
"""How long a connection lingers."""

DISCARD_S = 0.002
"""The pause between two reads of at most 256 KiB, which lingering connections make in turns: 128 MB/s in all. So
discarding takes a small part of the event loop, however fast clients send."""

FLUSH_S = 1.0
"""How long the answer of a connection may take to be sent if its lingering is cut short."""


class Lingering:
    """The lingering connections. Used on the event loop only.

    Args:
        most: how many may linger; if there are more, the oldest one is closed.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._of: OrderedDict[object, tuple[asyncio.Transport, asyncio.TimerHandle]] = OrderedDict()
        self._unread: OrderedDict[object, None] = OrderedDict()  # paused after data arrived
        self._reading = False

    def __contains__(self, connection: object) -> bool:
        return connection in self._of

    def add(self, connection: object, transport: asyncio.Transport) -> None:
        """Send EOF, and close after the client has had time to read.

        Data that arrives until then is given to the connection, which discards it and calls `came`.
        """
        loop = asyncio.get_running_loop()
        try:
            transport.write_eof()
        except (OSError, RuntimeError, NotImplementedError):
            transport.close()
            return
        if len(self._of) >= self._most:
            first, (oldest, timer) = self._of.popitem(last=False)
            self._unread.pop(first, None)
            timer.cancel()
            # Its answer may not be in the kernel's buffer yet, if many are turned away in one turn of the event loop.
            oldest.close()
            loop.call_later(FLUSH_S, oldest.abort)
        self._of[connection] = (transport, loop.call_later(LINGER_S, transport.close))
        self.came(connection)

    def gone(self, connection: object) -> None:
        """Note that a connection has ended."""
        self._unread.pop(connection, None)
        if (found := self._of.pop(connection, None)) is not None:
            found[1].cancel()

    def came(self, connection: object) -> None:
        """Note that data arrived and was discarded; the other connections are read before this one is again."""
        if connection not in self._of or self._of[connection][0].is_closing():
            return
        self._of[connection][0].pause_reading()
        self._unread[connection] = None
        self._read_later()

    def _read_later(self) -> None:
        if self._unread and not self._reading:
            self._reading = True
            asyncio.get_running_loop().call_later(DISCARD_S, self._read)

    def _read(self) -> None:
        self._reading = False
        if self._unread:
            connection, _ = self._unread.popitem(last=False)
            transport, _ = self._of[connection]
            if not transport.is_closing():
                transport.resume_reading()
        self._read_later()
