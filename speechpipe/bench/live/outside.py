"""Faults from outside the server: signals to its workers, processes beside it, and a locked store."""

import asyncio
import contextlib
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path

import numpy as np

from speechpipe.bench.live import table
from speechpipe.bench.live.server import LiveServer
from speechpipe.bench.live.table import LiveFault

LOCK_WAIT_S = 30.0

BUSY = """
import os, sys
os.nice(int(sys.argv[2]))
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""
"""A process that is busy until the benchmark ends."""

HOLDING = """
import os, sys, time
held = bytearray(int(sys.argv[1]) * 2**20)
for place in range(0, len(held), 4096):
    held[place] = 1
parent = os.getppid()
while os.getppid() == parent:
    time.sleep(0.5)
"""
"""A process that holds memory until the benchmark ends."""


@contextlib.asynccontextmanager
async def applied(fault: LiveFault, server: LiveServer, random: np.random.Generator) -> AsyncIterator[None]:
    """Make a fault of the workers, the machine or the store for the time of the block; others: nothing happens."""
    if fault.kind in (table.PROCESSES, table.MEMORY):
        async with _beside(fault):
            yield
        return
    if fault.kind not in _LOOPS:
        yield
        return
    task = asyncio.create_task(_LOOPS[fault.kind](fault, server, random))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def hog(processes: int, nice: int = 0) -> AsyncIterator[None]:
    """Keep so many processes busy for the time of the block."""
    async with _processes(BUSY, processes, 0, nice):
        yield


@contextlib.asynccontextmanager
async def _beside(fault: LiveFault) -> AsyncIterator[None]:
    if fault.kind == table.MEMORY:
        async with _processes(HOLDING, 1, round(fault.value), 0):
            yield
        return
    nice = round(fault.values[1]) if len(fault.values) > 1 else 0
    async with hog(round(fault.value), nice):
        yield


@contextlib.asynccontextmanager
async def _processes(program: str, count: int, size: int, nice: int) -> AsyncIterator[None]:
    command = [sys.executable, "-S", "-E", "-c", program, str(size), str(nice)]
    started = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


async def _stopped(fault: LiveFault, server: LiveServer, random: np.random.Generator) -> None:
    del random
    stopped_s, running_s = fault.values
    while True:
        pids = server.workers()
        server.send(pids, signal.SIGSTOP)
        try:
            await asyncio.sleep(stopped_s)
        finally:
            server.send(pids, signal.SIGCONT)
        await asyncio.sleep(running_s)


async def _killed(fault: LiveFault, server: LiveServer, random: np.random.Generator) -> None:
    while True:
        if pids := server.workers():
            server.send([pids[int(random.integers(len(pids)))]], signal.SIGKILL)
        await asyncio.sleep(fault.value)


async def _locked(fault: LiveFault, server: LiveServer, random: np.random.Generator) -> None:
    del random
    locked_s, free_s = fault.values
    while True:
        locking = asyncio.ensure_future(asyncio.to_thread(_lock, server.store))
        try:
            await asyncio.shield(locking)
            await asyncio.sleep(locked_s)
        except sqlite3.OperationalError:
            continue  # it could not be locked in time
        finally:
            with contextlib.suppress(sqlite3.OperationalError):
                (await locking).close()  # ends the transaction, also if the fault ends while it is being locked
        await asyncio.sleep(free_s)


def _lock(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=LOCK_WAIT_S, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    return connection


Loop = Callable[[LiveFault, LiveServer, np.random.Generator], Coroutine[None, None, None]]

_LOOPS: Mapping[str, Loop] = {table.STOPPED: _stopped, table.KILLED: _killed, table.LOCKED: _locked}
