"""Figures of bundles, as `speechpipe bench recognizer --write` measures them: one file for each version of a bundle.

They are beside the cards (`figures/NAME-VERSION.json` in a models folder) and not in them: a card never changes, and a
copy of a shipped card in an operator's folder would stand before the next version that comes with the package.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from speechpipe.cascade.catalog.cards import check_name
from speechpipe.errors import BadInput
from speechpipe.foundation.text_files import parse_json, read_text

FOLDER = "figures"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one version of a bundle did on some recordings, on one machine."""

    bundle: str  # name@version
    hash: str  # `Catalogue.digest` of the bundle that was measured
    wer: float  # words wrong, over the words that were said; `wer_low` and `wer_high`: its 95 % interval
    wer_low: float
    wer_high: float
    wer_alone: float  # of the recognizer alone: on the marked spans of speech, else on whole recordings
    words: int  # that were said
    normalizer: str  # see `cascade/evaluation/normalizers.py`
    audio_s: float
    cpu: float  # CPU seconds of all threads for one second of uploaded audio: reading, VAD and recognizer
    finals: int  # live segments with a text, of one stream; 0: no latency was measured
    final_p50_ms: float  # from the decision that a live segment has ended to its text
    final_p95_ms: float
    worker_rss_mb: float  # most resident memory of one worker process, MiB
    load_s: float  # from the start of the workers until they are ready
    manifests: tuple[str, ...]
    date: str
    machine: str
    version: str  # of speechpipe

    def document(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self) | {"manifests": list(self.manifests)}


def path_of(models: Path, name: str, version: str) -> Path:
    """Return the file of a bundle's figures in a models folder."""
    return models / FOLDER / f"{name}-{version}.json"


def paths(models: Path) -> list[Path]:
    """Return all files of figures in a models folder."""
    return sorted((models / FOLDER).glob("*.json"))


def write(figures: Figures, models: Path) -> Path:
    """Write figures into a models folder, in place of those that were there; return the path."""
    path = path_of(models, *figures.bundle.split("@", 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(figures.document(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    fresh.replace(path)
    return path


def read(models: Path) -> dict[str, Figures]:
    """Return the figures in a models folder by `name@version`. A file that cannot be read is logged and left out."""
    found = {}
    for path in paths(models):
        try:
            figures = parsed(parse_json(read_text(path)))
        except (BadInput, ValueError) as error:
            log.warning("the figures in %s are ignored: %s", path, error)
        else:
            found[figures.bundle] = figures
    return found


def parsed(document: object) -> Figures:
    """Return the figures of plain data; fields that are not known are left out.

    Raises:
        ValueError: a field is missing or has another type.
    """
    if not isinstance(document, Mapping):
        raise ValueError("not a JSON object")
    values: dict[str, Any] = {}
    for field in fields(Figures):
        value = document.get(field.name)
        if not _fits(field.type, value):
            raise ValueError(f"`{field.name}` is missing or wrong")
        values[field.name] = tuple(value) if isinstance(value, list) else value
    for part in str(values["bundle"]).split("@", 1):
        check_name(part, "bundle")
    return Figures(**values)


def _fits(wanted: object, value: object) -> bool:
    if wanted is str:
        return isinstance(value, str)
    if wanted in (int, float):
        return isinstance(value, int | float if wanted is float else int) and not isinstance(value, bool)
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
