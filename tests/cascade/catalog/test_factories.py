"""Pools from settings."""

import pytest

from speechpipe.cascade.catalog.factories import file_pool, live_pool
from speechpipe.config import Settings


@pytest.mark.parametrize(("workers", "threads"), [(0, 1), (1, 8), (3, 2), (8, 1), (20, 1)])
def test_the_threads_of_all_workers_are_as_many_as_the_cores(
    workers: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "cores", 8)
    settings = Settings(workers=workers, live_workers=workers)
    assert file_pool(settings).threads == live_pool(settings).threads == threads
