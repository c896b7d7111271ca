"""The copy of the route in the state directory, for a server that starts while the store is unavailable."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from speechpipe.control.rollout.routes import RouteState, load
from speechpipe.errors import SpeechpipeError
from speechpipe.foundation.state_files import write_file

log = logging.getLogger(__name__)


def write(path: Path, state: RouteState) -> None:
    """Write the copy; failures are logged."""
    try:
        write_file(path, json.dumps(state.document()).encode())
    except OSError as error:
        log.warning("the copy of the route cannot be written: %s", error)


def read(path: Path, known_guards: Mapping[str, float]) -> RouteState | None:
    """Return the copy; None if there is none, or it cannot be read."""
    try:
        return load(json.loads(path.read_text()), known_guards)
    except (OSError, ValueError, KeyError, TypeError, SpeechpipeError):
        return None
