"""Checkpoints of a training, written atomically. The previous one is kept too."""

import errno
import logging
from pathlib import Path
from typing import Any

import torch

from speechpipe.errors import NoSpace

log = logging.getLogger(__name__)

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Checkpoints:
    """The two newest checkpoints of one training."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._newest = folder / "checkpoint.pt"
        self._before = folder / "checkpoint.before.pt"

    def save(self, state: dict[str, Any]) -> None:
        """Save a checkpoint.

        Raises:
            NoSpace: the disk is full; the earlier checkpoints are intact.
        """
        fresh = self._newest.with_suffix(".new")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            torch.save(state, fresh)
            if self._newest.exists():
                self._newest.replace(self._before)
            fresh.replace(self._newest)
        except (OSError, RuntimeError) as error:  # torch raises RuntimeError for a failed write
            fresh.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno not in FULL:
                raise
            message = f"{self._folder}: no space for a checkpoint ({error}); the last one is intact: continue from it"
            raise NoSpace(message) from error

    def load(self) -> tuple[dict[str, Any], int] | None:
        """Return the newest readable checkpoint and the number of broken ones before it; None without one."""
        broken = 0
        for path in (self._newest, self._before):
            if not path.exists():
                continue
            try:
                return torch.load(
                    path, map_location="cpu", weights_only=True
                ), broken  # weights_only: no code in the file is run
            except Exception as error:  # noqa: BLE001 - a damaged file can make the reader raise anything
                broken += 1
                log.warning("%s is damaged (%s) and ignored", path, type(error).__name__)
        return None
