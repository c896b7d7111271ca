"""The table of faults of the live benchmark, read from TOML."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechpipe.bench.faults import audio
from speechpipe.bench.live import inside
from speechpipe.errors import BadInput

SHIPPED = Path(__file__).with_name("faults.toml")
TRUTHS = ("input", "vad", "asr", "infra", "client", "none")
SEVERITIES = ("mild", "medium", "severe", "harmless")
FROM_OUTSIDE = ("audio", "people", "traffic")
"""Places of faults that need no hold of the server's processes."""

PROCESSES, MEMORY = "cpu_hog", "memory_hog"
STOPPED, KILLED = "workers_stopped", "workers_killed"
LOCKED = "store_locked"
REDO, TYPING, ABANDON = "people_redo", "people_typing", "people_abandon"
LONGER, OTHERS, MORE, RESTART = "longer_sessions", "other_speakers", "more_traffic", "restart"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: where it acts, and how few and how many values it takes."""

    where: str
    least: int = 1
    most: int = 1


KINDS: Mapping[str, Kind] = {
    **{name: Kind("audio") for name in sorted(audio.KINDS - {"phase_cancellation"})},
    **{name: Kind("vad") for name in (*inside.PARAMETERS, *inside.SCORES)},
    **{name: Kind("recognizer") for name in (*inside.TEXTS, inside.EMPTY, inside.RAISES, inside.FEATURES)},
    STOPPED: Kind("workers", 2, 2),
    KILLED: Kind("workers"),
    inside.SLEEP: Kind("workers"),
    PROCESSES: Kind("machine", 1, 2),
    MEMORY: Kind("machine"),
    LOCKED: Kind("store", 2, 2),
    inside.STORE_SLOW: Kind("store"),
    **{name: Kind("people") for name in (REDO, TYPING, ABANDON)},
    LONGER: Kind("traffic"),
    OTHERS: Kind("traffic", 0, 0),
    MORE: Kind("traffic"),
    RESTART: Kind("traffic", 0, 0),
}
"""All kinds, by name; what their values mean stands in `faults.toml`."""


@dataclass(frozen=True, slots=True)
class LiveFault:
    """One row.

    Attributes:
        name: unique in the table.
        truth: the correct verdict.
        severity: how much of it people notice; `harmless` if nothing is wrong.
        where: the place where it acts.
        kind: what is done there.
        values: the parameters of the kind.
        share: of the sessions that a fault of the audio reaches, 0..1.
        also: another row, whose fault is active at the same time; empty: none.
    """

    name: str
    truth: str
    severity: str
    where: str
    kind: str
    values: tuple[float, ...] = ()
    share: float = 1.0
    also: str = ""

    @property
    def value(self) -> float:
        """The first parameter; 0 without one."""
        return self.values[0] if self.values else 0.0

    @property
    def is_from_outside(self) -> bool:
        """Whether it needs no hold of the server's processes."""
        return self.where in FROM_OUTSIDE and self.kind != RESTART


def read_table(path: Path = SHIPPED) -> tuple[LiveFault, ...]:
    """Read the array `fault` of a TOML file.

    Raises:
        BadInput: the file cannot be read, or a row is wrong; the message names both.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # tomllib.TOMLDecodeError is a ValueError
        raise BadInput(f"{path}: {error}") from error
    rows = found.get("fault")
    if not isinstance(rows, list) or not rows:
        raise BadInput(f"{path}: needs at least one [[fault]]")
    faults = tuple(_fault(f"{path}, fault {number}", row) for number, row in enumerate(rows, 1))
    names = [fault.name for fault in faults]
    for fault in faults:
        if names.count(fault.name) > 1:
            raise BadInput(f"{path}: two faults are called {fault.name!r}")
        if fault.also and (fault.also not in names or fault.also == fault.name):
            raise BadInput(f"{path}: {fault.name}: `also` must name another fault, not {fault.also!r}")
    return faults


def _fault(place: str, row: object) -> LiveFault:
    if not isinstance(row, dict):
        raise BadInput(f"{place}: must be a table")
    known = {"name", "truth", "severity", "where", "kind", "value", "values", "share", "also"}
    if unknown := sorted(row.keys() - known):
        raise BadInput(f"{place}: unknown field {unknown[0]!r}; known: {', '.join(sorted(known))}")
    name = _word(place, row, "name")
    place = f"{place} ({name})"
    kind = KINDS.get(_word(place, row, "kind"))
    if kind is None:
        raise BadInput(f"{place}: unknown kind {row['kind']!r}; known: {', '.join(sorted(KINDS))}")
    if _word(place, row, "where") != kind.where:
        raise BadInput(f"{place}: {row['kind']} is a fault of `where` {kind.where!r}, not {row['where']!r}")
    truth, severity = _one_of(place, row, "truth", TRUTHS), _one_of(place, row, "severity", SEVERITIES)
    if (truth == "none") != (severity == "harmless"):
        raise BadInput(f"{place}: `truth` none and `severity` harmless go together")
    values = _values(place, row)
    if not kind.least <= len(values) <= kind.most:
        wanted = str(kind.most) if kind.least == kind.most else f"{kind.least} to {kind.most}"
        raise BadInput(f"{place}: {row['kind']} takes {wanted} values, not {len(values)}")
    share = _number(place, "share", row.get("share", 1.0))
    if not 0 < share <= 1:
        raise BadInput(f"{place}: `share` must be above 0 and at most 1, not {share:g}")
    also = row.get("also", "")
    if not isinstance(also, str):
        raise BadInput(f"{place}: `also` must be the name of another fault")
    return LiveFault(name, truth, severity, kind.where, row["kind"], values, share, also)


def _values(place: str, row: Mapping[str, Any]) -> tuple[float, ...]:
    if "value" in row and "values" in row:
        raise BadInput(f"{place}: give `value` or `values`, not both")
    given = row.get("values", [row["value"]] if "value" in row else [])
    if not isinstance(given, list):
        raise BadInput(f"{place}: `values` must be a list of numbers")
    return tuple(_number(place, "value", one) for one in given)


def _number(place: str, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadInput(f"{place}: `{name}` must be a number, not {value!r}")
    return float(value)


def _word(place: str, row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise BadInput(f"{place}: `{name}` must be a text that is not empty")
    return value


def _one_of(place: str, row: Mapping[str, Any], name: str, known: tuple[str, ...]) -> str:
    value = _word(place, row, name)
    if value not in known:
        raise BadInput(f"{place}: `{name}` must be one of {', '.join(known)}, not {value!r}")
    return value
