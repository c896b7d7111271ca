"""Local cards: checks and installs them; an installed version is never changed."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import Card, read_card, shipped_models
from speechpipe.errors import BadInput, Conflict
from speechpipe.foundation.text_files import read_text
from speechpipe.types import Bundle, Scalar


def install(text: str, folder: Path, catalogue: Catalogue) -> Path:
    """Check a card together with the existing ones and write it into `folder`; return its path.

    Raises:
        BadInput: it is invalid, or names a card that does not exist.
        Conflict: the same version exists with other contents.
    """
    with tempfile.TemporaryDirectory() as name:
        trial = Path(name) / "card.toml"
        trial.write_text(text, encoding="utf-8")
        try:
            card = read_card(trial)
        except BadInput as error:
            raise BadInput(error.message.removeprefix(f"{trial}: ")) from error
        target = folder / card.kind / f"{card.name}-{card.version}.toml"
        known = [path for path in (target, _known(catalogue, card.kind, card.name, card.version)) if path is not None]
        for path in known:
            if path.is_file() and read_text(path) != text:
                message = f"{card.name} {card.version} exists already ({path}) with other contents"
                raise Conflict(f"{message}: give it another version (--version, or `version` in the card)")
        # Read all cards as they will be, so that a card that breaks others is not added.
        Catalogue([shipped_models(), folder, Path(name)])
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(target)
    return target


def _known(catalogue: Catalogue, kind: str, name: str, version: str) -> Path | None:
    card = catalogue.cards.get((kind, f"{name}@{version}"))
    return card.path if card is not None else None


def derived(catalogue: Catalogue, bundle: Bundle, name: str, version: str, changes: Mapping[str, Scalar]) -> str:
    """Return the text of a card for a variant of `bundle` with changed parameters.

    Raises:
        InvalidParameter: a parameter is unknown, or a value is out of bounds.
    """
    changed = catalogue.changed(bundle, changes) if changes else bundle
    summary = ", ".join(f"{key}={value}" for key, value in changes.items()) or "unchanged"
    lines = [
        'kind = "bundle"',
        f"name = {json.dumps(name)}",
        f"version = {json.dumps(version)}",
        f"description = {json.dumps(f'{bundle.id} with {summary}')}",
        f"languages = {json.dumps(list(bundle.languages))}",
        "",
        "[vad]",
        f"card = {json.dumps(reference(catalogue.part('vad', changed)))}",
        f"options = {table(changed.vad.options)}",
        "",
        "[vad.segmenter]",
        *(f"{key} = {value}" for key, value in changed.segmenter.items()),
        "",
        "[asr]",
        f"card = {json.dumps(reference(catalogue.part('asr', changed)))}",
        f"options = {table(changed.asr.options)}",
        "",
    ]
    return "\n".join(lines)


def reference(card: Card) -> str:
    """Return how a bundle's card refers to a component: by name@version if it was retrained, else by name."""
    return card.id if card.parent else card.name


def table(values: Mapping[str, Scalar]) -> str:
    """Return values as a TOML inline table."""
    # JSON and TOML write strings, numbers and booleans alike.
    return "{ " + ", ".join(f"{key} = {json.dumps(value)}" for key, value in values.items()) + " }" if values else "{}"
