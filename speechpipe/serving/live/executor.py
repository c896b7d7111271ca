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

from speechpipe.foundation.background import BackgroundTask

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


WAIT_S = 1.0
"""How long a lane waits for an actor before it looks whether it is to end."""


class StepExecutor:
    """`schedule` from any thread; every schedule is followed by a step that begins after it.

    What a step raises is told to its actor (`broken`) and counted in `failures`; the other actors go on. `tasks` are
    the threads.
    """

    def __init__(self, count: int) -> None:
        self._ready: deque[Actor] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self.cpu_s = 0.0
        self.failures = 0
        self.tasks = [BackgroundTask(f"lane-{i}", self._run_one, unblock=self._unblock) for i in range(count)]

    def start(self) -> None:
        """Start the threads."""
        for task in self.tasks:
            task.start()

    def close(self) -> None:
        """End the threads; what is queued is not run any more."""
        self._unblock()
        for task in self.tasks:
            task.close()

    def _unblock(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def schedule(self, actor: Actor) -> None:
        """Have `actor` step soon."""
        with self._changed:
            if actor.state is State.IDLE:
                actor.state = State.QUEUED
                self._ready.append(actor)
                self._changed.notify()
            elif actor.state is State.RUNNING:
                actor.state = State.AGAIN

    def _run_one(self) -> None:
        """Run the next actor's step; return without one if none comes for a while."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._closing, WAIT_S)
            if self._closing or not self._ready:
                return
            actor = self._ready.popleft()
            actor.state = State.RUNNING
        begun, more = time.thread_time(), False
        try:
            more = self._step(actor)
        finally:  # whatever happened, the actor may be scheduled again
            with self._changed:
                self.cpu_s += time.thread_time() - begun
                if more or actor.state is State.AGAIN:
                    actor.state = State.QUEUED
                    self._ready.append(actor)
                    self._changed.notify()
                else:
                    actor.state = State.IDLE

    def _step(self, actor: Actor) -> bool:
        try:
            return actor.step()
        except Exception as error:  # the last handler of a live stream: it is told, and the lane goes on at once
            log.exception("a live stream broke")
            with self._changed:
                self.failures += 1
            actor.broken(error)
            return False
