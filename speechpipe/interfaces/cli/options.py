"""Helpers for options that several commands share: settings, `--set`, manifests."""

import json
from pathlib import Path
from typing import Any

from speechpipe.config import Settings, load
from speechpipe.errors import BadInput, InvalidParameter
from speechpipe.foundation.text_files import MOST_LIST_BYTES, read_text
from speechpipe.serving.engine import Service
from speechpipe.types import Bundle, Scalar


def settings(**changes: Any) -> Settings:
    """Return the settings of the environment with `changes`.

    Raises:
        BadInput: the environment has an invalid value; the message names it.
    """
    return load(**changes)


def parse_set(items: list[str] | None) -> dict[str, Scalar]:
    """Parse `name=value` items; a value that is not JSON is text.

    Raises:
        InvalidParameter: an item has no `=`.
    """
    changes: dict[str, Scalar] = {}
    for item in items or ():
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise InvalidParameter(f"--set takes name=value, not {item!r}", param="set")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        changes[name] = value if isinstance(value, int | float | bool) else text
    return changes


def choose(service: Service, name: str, vad: str | None, asr: str | None, changes: dict[str, Scalar]) -> Bundle:
    """Return the bundle that the flags describe."""
    bundle = service.catalogue.with_parts(service.bundle(name), vad, asr)
    return service.catalogue.changed(bundle, changes) if changes else bundle


def read_manifest(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a manifest; `audio` becomes a path relative to the manifest's folder.

    Raises:
        BadInput: a line is not an object with `audio`; the message names the line.
    """
    rows = []
    for number, line in enumerate(read_text(path, MOST_LIST_BYTES).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            row["audio"] = path.parent / row["audio"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise BadInput(f"{path}:{number}: not a JSON object with `audio` ({error})") from error
        rows.append(row)
    if not rows:
        raise BadInput(f"{path}: the manifest has no lines")
    return rows
