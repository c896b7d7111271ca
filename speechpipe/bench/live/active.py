"""The file that says which faults are active inside a server's processes: the benchmark writes it, the hook reads it.

A JSON object: the kind of a fault -> its values. Only the standard library is used, because the hook imports this in
every process of the server before anything else is imported.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

Values = Sequence[float]


def write(path: Path, faults: Mapping[str, Values]) -> None:
    """Make these faults the active ones. Atomic: a reader sees the faults before or after, and nothing between."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({kind: list(values) for kind, values in faults.items()}))
    fresh.replace(path)


class ActiveFaults:
    """The active faults, read again whenever the file has changed. Any thread may ask."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._seen: tuple[int, int] | None = None
        self._faults: Mapping[str, tuple[float, ...]] = {}

    def values(self, kind: str) -> tuple[float, ...] | None:
        """Return the values of a fault; None if it is not active. Without the file, none is."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        seen = status.st_mtime_ns, status.st_ino
        if seen != self._seen:
            try:
                found = json.loads(self._path.read_text())
            except (OSError, ValueError):
                return None
            self._faults = {name: tuple(map(float, values)) for name, values in found.items()}
            self._seen = seen
        return self._faults.get(kind)

    def value(self, kind: str) -> float | None:
        """Return the first value of a fault; None if it is not active."""
        values = self.values(kind)
        return values[0] if values else None
