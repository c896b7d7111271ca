"""Turns: requests with large bodies begin one after another, and short requests between them."""

import asyncio
from collections import deque


class Turns:
    """Lets one caller go on in each turn of the event loop. Used on the event loop only.

    To begin or to refuse an upload takes about a millisecond. If hundreds arrive at the same moment, the event loop
    would work on them all before it looked at the health check that came next.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._taken = False

    async def turn(self) -> None:
        """Return when it is the caller's turn: at once if nobody else waits, else in the order in which they came."""
        loop = asyncio.get_running_loop()
        if not self._taken:
            self._taken = True
            loop.call_soon(self._next)
            return
        mine = loop.create_future()
        self._waiting.append(mine)
        await mine

    def _next(self) -> None:
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():  # its task may have been cancelled
                first.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._taken = False
