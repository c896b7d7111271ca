"""What the monitor's tests share."""

from collections.abc import Iterator

import pytest

from tests.monitor.databases import POSTGRES


@pytest.fixture(scope="session", autouse=True)
def _postgres() -> Iterator[None]:
    yield
    POSTGRES.stop()
