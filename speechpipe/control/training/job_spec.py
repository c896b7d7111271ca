"""Files between a training process and its parent: job spec, progress and result. They survive restarts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from speechpipe.control.training import Judgement, Kind
from speechpipe.types import Component, ModelFile, Scalar

ORDER, RESULT, PROGRESS, LOG = "order.json", "result.json", "progress.json", "log.txt"
STOPPED = 75
"""Exit code of a stopped training process (EX_TEMPFAIL): it can be continued."""

CANDIDATE = "candidate"
"""The subfolder for the files of the new version."""


@dataclass(frozen=True)
class Order:
    """What to train and on which data. Paths are absolute, or relative to the folder."""

    kind: Kind
    asr: Component
    vad: Component
    segmenter: Mapping[str, float]
    manifests: Sequence[str]
    check: Sequence[str] = ()
    replay: Sequence[str] = ()
    pronunciations: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Result:
    """The result. `files`: role -> name in the candidate's folder; `segmenter`: its new values."""

    judgement: Judgement
    reason: str
    figures: Mapping[str, float] = field(default_factory=dict)
    data: Mapping[str, Scalar] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    segmenter: Mapping[str, float] = field(default_factory=dict)
    error: str = ""  # why there is no candidate
    cause: str = ""


def write_order(folder: Path, order: Order) -> None:
    """Write an order into its folder."""
    write(folder / ORDER, asdict(order))


def read_order(folder: Path) -> Order:
    """Return the order of a folder."""
    data = json.loads((folder / ORDER).read_text(encoding="utf-8"))
    return Order(**{**data, "kind": Kind(data["kind"]), "asr": _component(data["asr"]), "vad": _component(data["vad"])})


def _component(data: Mapping[str, Any]) -> Component:
    files = tuple(ModelFile(file["role"], Path(file["path"]), file["sha256"]) for file in data["files"])
    return Component(**{**data, "files": files})


def read_result(folder: Path) -> Result | None:
    """Return the result; None if there is none yet."""
    try:
        data = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Result(**{**data, "judgement": Judgement(data["judgement"])})


def read_progress(folder: Path) -> Mapping[str, Any]:
    """Return the progress, with `share` in 0..1 and `what` is being done; empty if there is none."""
    try:
        found = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write(path: Path, data: Any) -> None:
    """Write JSON atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps(data, default=str), encoding="utf-8")
    fresh.replace(path)
