"""Turns of the event loop: requests with large bodies start one after another, with short requests in between."""

import asyncio
from collections import deque
from collections.abc import Callable

PAUSE = 4
"""Turns of the event loop between two steps. libuv accepts one connection in each turn, so a new connection behind many
others would otherwise wait for as many steps as there are connections before it."""


class Turns:
    """Lets one step be made in every few turns of the event loop. Used on the event loop only.

    Starting or refusing an upload takes about a millisecond. If hundreds arrived at the same moment, the event loop
    would process them all before a health check that came next.
    """

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._taken = False

    def call(self, step: Callable[[], None]) -> None:
        """Call `step` when it is its turn: at once if no other waits, else in the order of the calls."""
        if self._taken:
            self._waiting.append(step)
            return
        self._take()
        step()

    async def turn(self) -> None:
        """Return when it is the caller's turn."""
        if not self._taken:
            self._take()
            return
        mine = asyncio.get_running_loop().create_future()
        self._waiting.append(lambda: None if mine.done() else mine.set_result(None))  # its task may be cancelled
        await mine

    def _take(self) -> None:
        self._taken = True
        asyncio.get_running_loop().call_soon(self._next, PAUSE)

    def _next(self, pause: int) -> None:
        if pause:
            asyncio.get_running_loop().call_soon(self._next, pause - 1)
        elif not self._waiting:
            self._taken = False
        else:
            self._take()
            self._waiting.popleft()()
