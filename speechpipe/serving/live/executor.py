"""The step executor: a few threads that run live streams in turn, each stream on one thread at a time.

Heavy work is kept off the event loop, and a stream gives way after every step. There are fewer threads than streams:
under load more audio is then processed per step, which costs less.
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
    """Scheduling state of an actor, guarded by the executor's lock."""

    IDLE = 0
    QUEUED = 1
    RUNNING = 2
    AGAIN = 3  # scheduled while it was running


class Actor(Protocol):
    """An object with work that the executor runs step by step."""

    state: State

    def step(self) -> bool:
        """Do a bounded piece of work; return whether there is more to do at once."""
        ...

    def broken(self, error: Exception) -> None:
        """Handle an unexpected exception of a step."""
        ...


WAIT_S = 1.0
"""Seconds that a thread waits for an actor before it checks whether it must end."""


class StepExecutor:
    """Runs steps of actors on `count` threads (`tasks`). Thread-safe.

    Each call of `schedule` is followed by a step that begins after it. An exception of a step is passed to its actor
    (`broken`) and counted in `failures`; other actors are not affected.
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
        """End the threads; queued actors are not run any more."""
        self._unblock()
        for task in self.tasks:
            task.close()

    def _unblock(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def schedule(self, actor: Actor) -> None:
        """Queue a step of `actor`."""
        with self._changed:
            if actor.state is State.IDLE:
                actor.state = State.QUEUED
                self._ready.append(actor)
                self._changed.notify()
            elif actor.state is State.RUNNING:
                actor.state = State.AGAIN

    def _run_one(self) -> None:
        """Run one step of the next actor; return without one after `WAIT_S`."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._closing, WAIT_S)
            if self._closing or not self._ready:
                return
            actor = self._ready.popleft()
            actor.state = State.RUNNING
        begun, more = time.thread_time(), False
        try:
            more = self._step(actor)
        finally:  # the actor must be schedulable again in any case
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
        except Exception as error:  # passed to the stream, so that this thread can continue with other streams
            log.exception("a step of a live stream failed")
            with self._changed:
                self.failures += 1
            actor.broken(error)
            return False
