"""Helpers for options that several commands share: settings, `--set`, manifests."""

from pathlib import Path
from typing import Any

from speechpipe.config import Settings, load
from speechpipe.errors import BadInput, InvalidParameter
from speechpipe.foundation.text_files import parse_json
from speechpipe.interfaces.cli.weights import fetch_missing
from speechpipe.serving.service import Service
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
            value = parse_json(text)
        except ValueError:
            value = text
        changes[name] = value if isinstance(value, int | float | bool) else text
    return changes


def choose(service: Service, name: str, vad: str | None, asr: str | None, changes: dict[str, Scalar]) -> Bundle:
    """Return the bundle that the flags describe. Its weights are fetched if they are missing.

    Raises:
        BadInput: a name, parameter or value is wrong, or weights are missing and must not be fetched.
        FetchFailed: the weights cannot be had.
    """
    catalogue = service.engine.catalogue
    bundle = catalogue.with_parts(catalogue.bundle(name), vad, asr)
    fetch_missing(service.settings, catalogue, [bundle])
    catalogue.require(bundle)
    return catalogue.changed(bundle, changes) if changes else bundle


def read_manifest(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a manifest; `audio` becomes a path relative to the manifest's folder.

    Raises:
        BadInput: a line is not an object with `audio`, or a field is wrong; the message names the line and the field.
    """
    from speechpipe.cascade.evaluation.manifest import checked, rows_of

    rows = []
    for place, row in rows_of(path):
        if "spans" in row and "speech" not in row:  # it would be ignored, and the spans not be evaluated
            raise BadInput(f"{place}: spans of speech are named `speech`, not `spans`")
        rows.append({**checked(place, row), "audio": path.parent / row["audio"]})
    if not rows:
        raise BadInput(f"{path}: the manifest has no lines")
    return rows
