"""Checkpoints: where a training stands, in a file that is whole or not there. The one before is kept too."""

import errno
import logging
from pathlib import Path
from typing import Any

import torch

from speechpipe.errors import NoSpace

log = logging.getLogger(__name__)

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Checkpoints:
    """The two newest states of one training."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._newest = folder / "checkpoint.pt"
        self._before = folder / "checkpoint.before.pt"

    def save(self, state: dict[str, Any]) -> None:
        """Keep a state.

        Raises:
            NoSpace: the disk is full; the states before are still there.
        """
        fresh = self._newest.with_suffix(".new")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            torch.save(state, fresh)
            if self._newest.exists():
                self._newest.replace(self._before)
            fresh.replace(self._newest)
        except (OSError, RuntimeError) as error:  # torch's writer turns a failed write into a RuntimeError
            fresh.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno not in FULL:
                raise
            message = f"{self._folder}: no room for a checkpoint ({error}); what stands there is whole: go on from it"
            raise NoSpace(message) from error

    def load(self) -> tuple[dict[str, Any], int] | None:
        """Return the newest state that is whole, and how many broken ones were passed over; None without one."""
        broken = 0
        for path in (self._newest, self._before):
            if not path.exists():
                continue
            try:
                return torch.load(
                    path, map_location="cpu", weights_only=True
                ), broken  # numbers only: nothing in it runs
            except Exception as error:  # noqa: BLE001 - a broken file raises whatever its bytes make the reader raise
                broken += 1
                log.warning("%s is broken (%s) and is left aside", path, type(error).__name__)
        return None
