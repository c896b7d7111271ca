"""The threads that run live streams: each stream on one of them at a time, all in turn.

Nothing heavy runs on the event loop, and a stream that has much to do gives way after every step. A few threads for
all streams, not one each: under load the audio that arrived meanwhile is worked on in one go, which costs less.
"""

import logging
import threading
import time
from collections import deque
from enum import Enum
from typing import Protocol

log = logging.getLogger(__name__)


class State(Enum):
    """Of an actor, guarded by the lanes' lock."""

    IDLE = 0
    QUEUED = 1
    RUNNING = 2
    AGAIN = 3  # scheduled while it was running


class Actor(Protocol):
    """What runs on lanes."""

    state: State

    def step(self) -> bool:
        """Do a bounded piece of work; return whether there is more to do at once."""
        ...

    def broken(self, error: Exception) -> None:
        """Take note that a step raised what it should not."""
        ...


class Lanes:
    """`schedule` from any thread; every schedule is followed by a step that begins after it."""

    def __init__(self, count: int) -> None:
        self._ready: deque[Actor] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self.cpu_s = 0.0
        self._threads = [threading.Thread(target=self._run, name=f"lane-{i}", daemon=True) for i in range(count)]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End the threads; what is queued is not run any more."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def schedule(self, actor: Actor) -> None:
        """Have `actor` step soon."""
        with self._changed:
            if actor.state is State.IDLE:
                actor.state = State.QUEUED
                self._ready.append(actor)
                self._changed.notify()
            elif actor.state is State.RUNNING:
                actor.state = State.AGAIN

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ready or self._closing)
                if self._closing:
                    return
                actor = self._ready.popleft()
                actor.state = State.RUNNING
            begun = time.thread_time()
            try:
                more = actor.step()
            except Exception as error:  # the last handler of a live stream: the others go on
                log.exception("a live stream broke")
                more = False
                actor.broken(error)
            with self._changed:
                self.cpu_s += time.thread_time() - begun
                if more or actor.state is State.AGAIN:
                    actor.state = State.QUEUED
                    self._ready.append(actor)
                    self._changed.notify()
                else:
                    actor.state = State.IDLE
