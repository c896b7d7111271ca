"""Tables that come with a recognizer's card and say how often it is right at which confidence.

`tools/calibrate.py` measures them. The card names the file and its hash.
"""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from speechpipe.cascade.catalog.sources import check_path
from speechpipe.errors import BadInput
from speechpipe.foundation.stats.calibration import Calibration, ConfidenceTable, Prior
from speechpipe.foundation.text_files import parse_json

FORMAT = 1
"""Version of the file's format. A file of another version is refused."""

TOLERANCE = 0.01
"""The shares of a table must add up to 1 within this: they are rounded."""


def read_table(card: Path, entry: Mapping[str, Any], recognizer: str) -> ConfidenceTable:
    """Read the table that the section `[confidence]` of a card names.

    Args:
        card: path of the card; the table's path is relative to its folder.
        entry: the section: `table`, a path, and `sha256`.
        recognizer: `name@version` of the card.

    Raises:
        BadInput: it is missing, has another hash, was measured for another recognizer, or is no such table.
    """
    if entry.keys() != {"table", "sha256"} or not all(isinstance(value, str) for value in entry.values()):
        raise BadInput("[confidence] must have the texts table and sha256, and nothing else")
    name = entry["table"]
    check_path(name, f"the table {name!r}")
    try:
        content = (card.parent / name).read_bytes()
    except OSError as error:
        raise BadInput(f"the table {name!r} cannot be read: {error.strerror}") from error
    if (found := hashlib.sha256(content).hexdigest()) != entry["sha256"]:
        raise BadInput(f"the table {name!r} has sha256 {found}, the card says {entry['sha256']}")
    try:
        data = parse_json(content.decode())
        if data["format"] != FORMAT or data["recognizer"] != recognizer:
            raise BadInput(f"the table {name!r} must have format {FORMAT} and be of {recognizer}")
        return ConfidenceTable(_prior(data["utterances"]), _prior(data["words"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"the table {name!r} has a missing or wrong key {error}") from error


def _prior(data: Mapping[str, Any]) -> Prior:
    rows: Sequence[Sequence[float]] = data["steps"]
    if not rows:
        raise ValueError("steps: empty")
    edges, levels, shares = (tuple(float(value) for value in column) for column in zip(*rows, strict=True))
    if any(first >= second for first, second in pairwise(edges)):
        raise ValueError("steps: the confidences must rise")
    if list(levels) != sorted(levels) or levels[0] < 0 or levels[-1] > 1:
        raise ValueError("steps: the probabilities must not fall, and lie in 0..1")
    if min(shares) < 0 or abs(sum(shares) - 1) > TOLERANCE:
        raise ValueError("steps: the shares must add up to 1")
    return Prior(Calibration(edges, levels), shares)
