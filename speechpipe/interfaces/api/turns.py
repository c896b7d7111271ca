"""Turns of the event loop: requests with large bodies start one after another, with short requests in between."""

import asyncio
from collections import deque


class Turns:
    """Lets one caller continue in each turn of the event loop. Used on the event loop only.

    Starting or refusing an upload takes about a millisecond. If hundreds arrived at the same moment, the event loop
    would process them all before a health check that came next.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._taken = False

    async def turn(self) -> None:
        """Return when it is the caller's turn: at once if no other waits, else in the order of arrival."""
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
