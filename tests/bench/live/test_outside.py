"""Faults from outside a server end with their block."""

import asyncio
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from speechpipe.bench.live.outside import applied
from speechpipe.bench.live.server import LiveServer, ServerOptions
from speechpipe.bench.live.table import LiveFault
from speechpipe.foundation import system
from tests.patience import until


def row(kind: str, where: str, *values: float) -> LiveFault:
    return LiveFault(kind, "infra", "severe", where, kind, values)


@pytest.fixture
def server(tmp_path: Path) -> LiveServer:
    """A server that is never started."""
    found = LiveServer(tmp_path, ServerOptions("scripted"))
    found.store.parent.mkdir()
    sqlite3.connect(found.store).close()
    return found


def is_locked(path: Path) -> bool:
    connection = sqlite3.connect(path, isolation_level=None, timeout=0)
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return True
    finally:
        connection.close()
    return False


def test_the_store_is_locked_and_free_again(server: LiveServer) -> None:
    async def under_the_fault() -> None:
        async with applied(row("store_locked", "store", 3600.0, 1.0), server, np.random.default_rng(0)):
            await asyncio.to_thread(until, lambda: is_locked(server.store))

    asyncio.run(under_the_fault())
    assert not is_locked(server.store)


@pytest.mark.parametrize("fault", [row("cpu_hog", "machine", 2, 19), row("memory_hog", "machine", 1)])
def test_processes_beside_the_server_end(fault: LiveFault, server: LiveServer) -> None:
    before = system.descendants(os.getpid()).keys()

    async def under_the_fault() -> set[int]:
        async with applied(fault, server, np.random.default_rng(0)):
            return system.descendants(os.getpid()).keys() - before

    assert len(asyncio.run(under_the_fault())) == fault.value
    assert system.descendants(os.getpid()).keys() == before
