"""`speechpipe automation` and `speechpipe review` on a store file."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from speechpipe.monitor.store import Store
from speechpipe.review.queue import Reviewer
from speechpipe.review_desk import ReviewDesk
from tests.cli.test_rollout import run
from tests.review.tasks import said, task

__all__ = ["CliRunner"]


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "records.db")


def desk(store: str) -> ReviewDesk:
    return ReviewDesk(Store(f"sqlite:///{store}"))
