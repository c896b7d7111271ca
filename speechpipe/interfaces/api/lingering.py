"""Connections whose client has its answer and is still sending: what comes is thrown away for a while.

To close with data unread resets the connection, and the client may never see its answer (RFC 9112, 9.6).
"""

import asyncio
from collections import OrderedDict

LINGER_S = 5.0
"""How long what the client still sends is thrown away."""

DISCARD_S = 0.002
"""Between two reads, of 256 KiB at most, for all connections in turns: 128 MB/s. What many send after their answers
then takes a small part of the event loop, however fast it comes."""

FLUSH_S = 1.0
"""For the answer of a connection that is ended early."""


class Lingering:
    """Used on the event loop only.

    Args:
        most: connections at a time; of more, the one that has had the most time is ended.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._of: OrderedDict[asyncio.Protocol, tuple[asyncio.Transport, asyncio.TimerHandle]] = OrderedDict()
        self._unread: OrderedDict[asyncio.Protocol, None] = OrderedDict()  # something came, and no more is read yet
        self._reading = False

    def __contains__(self, connection: asyncio.Protocol) -> bool:
        return connection in self._of

    def add(self, connection: asyncio.Protocol, transport: asyncio.Transport) -> None:
        """Say that nothing more is answered, and close after the client has had time to read.

        What comes until then is given to the connection, which throws it away and calls `came`.
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
            # Its answer may still be on its way into the kernel: many are turned away in one turn of the event loop.
            oldest.close()
            loop.call_later(FLUSH_S, oldest.abort)
        self._of[connection] = (transport, loop.call_later(LINGER_S, transport.close))
        self.came(connection)

    def gone(self, connection: asyncio.Protocol) -> None:
        """Note that a connection has ended."""
        self._unread.pop(connection, None)
        if (found := self._of.pop(connection, None)) is not None:
            found[1].cancel()

    def came(self, connection: asyncio.Protocol) -> None:
        """Note that something came and was thrown away: the others are read before this one is again."""
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
