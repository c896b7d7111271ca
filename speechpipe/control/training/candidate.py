"""Cards of retrained models: new versions of the recognizer and the bundle. Existing cards are not changed."""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import Card, CardFile, OptionSpec, check_name
from speechpipe.cascade.catalog.local import install, reference, table
from speechpipe.control.training import Kind, Request
from speechpipe.control.training.job_spec import CANDIDATE, Result
from speechpipe.types import Bundle, Scalar

REVISION = re.compile(r"-r\d+$")


@dataclass(frozen=True)
class Described:
    """The content of a trained recognizer's card. `files`: role -> present path."""

    name: str
    version: str
    implementation: str
    description: str
    source: str
    licence: str
    languages: Sequence[str]
    files: Mapping[str, Path]
    parent: str = ""
    options: Mapping[str, OptionSpec] | None = None
    others: Sequence[CardFile] = ()
    data: Mapping[str, Scalar] | None = None
    metrics: Mapping[str, float] | None = None


def asr_card(card: Described) -> str:
    """Return the card of a recognizer, as TOML."""
    lines = [
        'kind = "asr"',
        f"name = {json.dumps(card.name)}",
        f"version = {json.dumps(card.version)}",
        *([f"parent = {json.dumps(card.parent)}"] if card.parent else []),
        f"implementation = {json.dumps(card.implementation)}",
        f"description = {json.dumps(card.description)}",
        f"source = {json.dumps(card.source)}",
        f"licence = {json.dumps(card.licence)}",
        f"languages = {json.dumps(list(card.languages))}",
    ]
    for name, spec in (card.options or {}).items():
        bounds = [f"{word} = {value}" for word, value in (("min", spec.least), ("max", spec.most)) if value is not None]
        lines += ["", f"[options.{name}]", f"default = {json.dumps(spec.default)}", *bounds]
    for role, path in card.files.items():
        lines += [
            "",
            "[[files]]",
            f"role = {json.dumps(role)}",
            f"path = {json.dumps(path.name)}",
            f"sha256 = {json.dumps(sha256(path))}",
        ]
    for file in card.others:
        said = {"role": file.role, "package": file.package, "url": file.url, "path": file.path, "sha256": file.sha256}
        lines += ["", "[[files]]", *(f"{key} = {json.dumps(value)}" for key, value in said.items() if value)]
    for title, values in (("data", card.data), ("metrics", card.metrics)):
        if values:
            lines += ["", f"[{title}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def sha256(path: Path) -> str:
    """Return the hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def place(card: Described, folder: Path, catalogue: Catalogue) -> Path:
    """Copy a recognizer's files and write its card into a models folder; return the path of the card.

    Raises:
        Conflict: this version exists with other contents.
        BadInput: the card does not fit the others.
        OSError: a file cannot be written.
    """
    name, version = check_name(card.name, "name"), check_name(card.version, "version")
    target = folder / "asr" / "files" / f"{name}-{version}"
    target.mkdir(parents=True, exist_ok=True)
    for path in card.files.values():
        if not (target / path.name).exists() or sha256(target / path.name) != sha256(path):
            fresh = target / (path.name + ".new")
            shutil.copyfile(path, fresh)
            fresh.replace(target / path.name)
    return install(asr_card(card), folder, catalogue)


def next_version(catalogue: Catalogue, kind: str, name: str, version: str) -> str:
    """Return the next free version: 1.0.0 -> 1.0.0-r1 -> 1.0.0-r2."""
    base = REVISION.sub("", version)
    taken = {card.version for card in catalogue.versions(kind) if card.name == name}
    number = 1
    while f"{base}-r{number}" in taken:
        number += 1
    return f"{base}-r{number}"


def release(request: Request, result: Result, work: Path, folder: Path, catalogue: Catalogue) -> str:
    """Write the candidate's cards; return the id of its bundle. A second call returns the same id.

    Raises:
        SpeechpipeError, OSError: they cannot be written.
    """
    parent = catalogue.bundle(request.bundle)
    made = work / "released.txt"
    if made.exists():
        return made.read_text(encoding="utf-8").strip()
    asr = reference(catalogue.part("asr", parent))
    if request.kind is not Kind.VAD:
        card = _described(catalogue.part("asr", parent), result, work, catalogue)
        place(card, folder, catalogue)
        catalogue.reload()
        asr = f"{card.name}@{card.version}"
    version = next_version(catalogue, "bundle", parent.name, parent.version)
    install(bundle_card(parent, version, result, asr), folder, catalogue)
    catalogue.reload()
    made.write_text(f"{parent.name}@{version}\n", encoding="utf-8")
    return f"{parent.name}@{version}"


def _described(parent: Card, result: Result, work: Path, catalogue: Catalogue) -> Described:
    files = {role: work / CANDIDATE / name for role, name in result.files.items()}
    replaced = {path.suffix for path in files.values()}
    for file in parent.files:  # files beside the parent's card that are not replaced are copied
        if file.role and file.role not in files and not file.package and file.locate() is not None:
            files[file.role] = file.given().path
    return Described(
        name=parent.name,
        version=next_version(catalogue, "asr", parent.name, parent.version),
        implementation=parent.implementation,
        description=f"{parent.id}, retrained: {result.reason}",
        source=parent.source,
        licence=parent.licence,
        languages=parent.languages,
        files=files,
        parent=parent.id,
        options=parent.options,
        others=[
            file for file in parent.files if file.package and file.role not in files and not _is(file.path, replaced)
        ],
        data=result.data,
        metrics=result.figures,
    )


def _is(path: str, suffixes: set[str]) -> bool:
    """Whether a file of the package is replaced: its language model or dictionary."""
    return Path(path).suffix in suffixes


def bundle_card(parent: Bundle, version: str, result: Result, asr: str) -> str:
    """Return the card of the candidate's bundle."""
    return "\n".join(
        [
            'kind = "bundle"',
            f"name = {json.dumps(parent.name)}",
            f"version = {json.dumps(version)}",
            f"parent = {json.dumps(parent.id)}",
            f"description = {json.dumps(f'{parent.id}, retrained: {result.reason}')}",
            f"languages = {json.dumps(list(parent.languages))}",
            "",
            "[vad]",
            f"card = {json.dumps(parent.vad.name)}",
            f"options = {table(parent.vad.options)}",
            "",
            "[vad.segmenter]",
            *(f"{key} = {value}" for key, value in {**parent.segmenter, **result.segmenter}.items()),
            "",
            "[asr]",
            f"card = {json.dumps(asr)}",
            f"options = {table(parent.asr.options)}",
            "",
        ]
    )
