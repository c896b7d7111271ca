"""Cards: TOML files that describe a VAD, a recognizer or a bundle, with its source, options and files."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from speechpipe.cascade.asr import HOTWORDS, PROMPT, TRANSLATION
from speechpipe.cascade.catalog.confidence import read_table
from speechpipe.cascade.catalog.sources import Source, UrlSource, check_path, check_url, read_sources
from speechpipe.errors import BadInput, InvalidParameter
from speechpipe.foundation.stats.calibration import NO_TABLE, ConfidenceTable
from speechpipe.foundation.text_files import parse_toml, read_text
from speechpipe.types import ModelFile, Scalar

KINDS = ("vad", "asr", "bundle")
SHA256 = re.compile("[0-9a-f]{64}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
"""Names and versions of cards; they are used in file names, URLs, metrics and on the command line."""

PACKAGE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # no sub-packages: finding one would import its parent


def check_name(value: object, what: str) -> str:
    """Return `value` if it is a valid name or version.

    Raises:
        BadInput: it is not; the message begins with `what`.
    """
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise BadInput(
            f"{what} must be letters, digits and . _ + - (at most 100, the first a letter or digit), not {value!r}"
        )
    return value


@dataclass(frozen=True, slots=True)
class OptionSpec:
    """One option of an implementation: its default, and the bounds of a number."""

    default: Scalar
    least: float | None = None
    most: float | None = None

    def check(self, name: str, value: Scalar) -> Scalar:
        """Return `value`, converted to the type of the default.

        Raises:
            InvalidParameter: it has another type, or is out of bounds.
        """
        if isinstance(self.default, bool):
            if not isinstance(value, bool):
                raise InvalidParameter(f"{name} must be true or false, not {value!r}", param=name)
            return value
        if isinstance(self.default, str):
            return str(value)
        if isinstance(value, bool | str) or (isinstance(self.default, int) and float(value) != int(value)):
            kind = "a whole number" if isinstance(self.default, int) else "a number"
            raise InvalidParameter(f"{name} must be {kind}, not {value!r}", param=name)
        least = self.least if self.least is not None else float("-inf")
        most = self.most if self.most is not None else float("inf")
        if not least <= value <= most:
            raise InvalidParameter(f"{name} must be in {least:g}..{most:g}, not {value!r}", param=name)
        return type(self.default)(value)


@dataclass(frozen=True, slots=True)
class CardFile:
    """A file of a component, with its hash: in an installed package, beside its card, or fetched (`models pull`).

    A file with a `role` is passed to the implementation; the others are only checked. What can be fetched has `sources`
    and a hash, or one `url` and possibly no hash.
    """

    path: str
    sha256: str = ""
    package: str = ""
    url: str = ""
    role: str = ""
    size: int = 0  # bytes; 0: the card does not say
    sources: tuple[Source, ...] = ()
    folder: Path | None = None  # folder beside the card, for files that are not in a package
    kept: Path | None = None  # folder for what is fetched, if not `folder`: the package's own folder is not written to

    def __post_init__(self) -> None:
        what = f"the file {self.path!r}"
        if bool(self.package) + bool(self.url) + bool(self.sources) > 1:
            raise BadInput(f"{what} can have only one of package, url and sources")
        if not SHA256.fullmatch(self.sha256) and (self.sha256 or not self.url):
            raise BadInput(f"{what} needs the sha256 of its bytes, 64 hexadecimal digits")
        check_path(self.path, what)
        if self.package and not PACKAGE.fullmatch(self.package):
            raise BadInput(f"{what} has an invalid package name: {self.package!r}")
        if self.size < 0:
            raise BadInput(f"{what} has an invalid size: {self.size}")
        if self.url:
            check_url(self.url, what, hashed=bool(self.sha256))

    @property
    def remote(self) -> tuple[Source, ...]:
        """The sources that it can be fetched from, in order; empty for a file that comes with a package or its card."""
        return (UrlSource(self.url),) if self.url else self.sources

    @property
    def root(self) -> Path | None:
        """Folder of the card's files, in which this one is fetched or expected; None for a file in a package."""
        if self.package:
            return None
        return self.kept if self.kept is not None and self.remote else self.folder

    @property
    def target(self) -> Path | None:
        """Path to which the file is fetched, or at which it is expected; None for a file in a package."""
        return self.root / self.path if self.root is not None else None

    @property
    def hash(self) -> str:
        """The SHA-256 that the file must have: of its card, or of its first download. Empty: not known yet."""
        if self.sha256 or self.target is None:
            return self.sha256
        try:
            found = first_seen(self.locate() or self.target).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""
        return found if SHA256.fullmatch(found) else ""

    def given(self) -> ModelFile:
        """Return the file as it is passed to the implementation, whether it exists or not."""
        return ModelFile(self.role, self.locate() or self.target or Path(self.path), self.hash)

    def locate(self) -> Path | None:
        """Return the path of the file, without importing its package; None if it does not exist."""
        if not self.package:
            beside = self.folder / self.path if self.folder is not None else None
            return next((path for path in (self.target, beside) if path is not None and path.is_file()), None)
        spec = find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            return None
        path = Path(spec.submodule_search_locations[0]) / self.path
        return path if path.is_file() else None

    def problem(self) -> str:
        """Return what is wrong with the file; empty if its hash is right."""
        path = self.locate()
        if path is None:
            if self.remote:
                return f"{self.path} (from {self.remote[0]}) is missing; `speechpipe models pull` fetches it"
            return f"{self.package}:{self.path} is missing" if self.package else f"{self.target} is missing"
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if not self.hash:
            return f"the hash of {path} is not known; `speechpipe models pull` fetches and checks it"
        source = "the card says" if self.sha256 else "its first download had"
        return "" if found == self.hash else f"{path} has sha256 {found}, {source} {self.hash}"


def first_seen(target: Path) -> Path:
    """Return the file that stores the SHA-256 of the first download, for files without a published hash."""
    return target.with_name(target.name + ".sha256")


@dataclass(frozen=True, slots=True)
class Card:
    """A card that was read and checked."""

    kind: str
    name: str
    version: str
    description: str
    languages: tuple[str, ...]
    path: Path
    implementation: str = ""
    source: str = ""
    licence: str = ""
    punctuated: bool = False  # of a recognizer: it writes punctuation and capitals
    takes: tuple[str, ...] | None = None  # of a recognizer, see `asr.taken`; None: what its implementation takes
    parent: str = ""  # name@version that it was retrained from; such a card is used only by its version
    options: Mapping[str, OptionSpec] = field(default_factory=dict)
    files: tuple[CardFile, ...] = ()
    confidence: ConfidenceTable = NO_TABLE  # of a recognizer: how often it is right at which confidence
    body: Mapping[str, Any] = field(default_factory=dict)  # the [vad] and [asr] tables of a bundle

    @property
    def id(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    @property
    def absent(self) -> tuple[CardFile, ...]:
        """The files that can be fetched and are not on this machine."""
        return tuple(file for file in self.files if file.remote and file.locate() is None)

    def resolve(self, changes: Mapping[str, Scalar], prefix: str) -> dict[str, Scalar]:
        """Return all options with `changes` applied.

        Raises:
            InvalidParameter: the card has no such option, or a value is out of bounds.
        """
        for name in changes:
            if name not in self.options:
                known = ", ".join(sorted(self.options)) or "none"
                raise InvalidParameter(
                    f"unknown parameter {prefix}.{name}; {self.name} has: {known}", param=f"{prefix}.{name}"
                )
        return {
            name: spec.check(f"{prefix}.{name}", changes[name]) if name in changes else spec.default
            for name, spec in self.options.items()
        }


def read_card(path: Path, own: Path | None = None, weights: Path | None = None) -> Card:
    """Read one card. `own` is the models folder for what is fetched; None: it is stored beside the card.

    `weights`, if it is given, is the folder for that instead, with one folder for each card in it (`NAME-VERSION`).

    Raises:
        BadInput: it is not TOML, or a key is missing or wrong; the message names the file.
    """
    try:
        data = parse_toml(read_text(path))
        kind = data["kind"]
        if kind not in KINDS:
            raise BadInput(f"{path}: kind must be one of {', '.join(KINDS)}")
        name, version = check_name(data["name"], "name"), check_name(data["version"], "version")
        if not isinstance(data["languages"], list) or not all(isinstance(item, str) for item in data["languages"]):
            raise BadInput("languages must be a list of texts")
        parent = str(data.get("parent", ""))
        for part in parent.split("@", 1) if parent else ():
            check_name(part, "parent")
        own_files = f"{name}-{version}"
        kept = own / kind / "files" / own_files if own is not None else None
        kept = weights / own_files if weights is not None else kept
        return Card(
            kind=kind,
            name=name,
            version=version,
            description=str(data["description"]),
            languages=tuple(data["languages"]),
            path=path,
            implementation="" if kind == "bundle" else check_name(data["implementation"], "implementation"),
            source=str(data.get("source", "")),
            licence=str(data.get("licence", "")),
            punctuated=data.get("punctuated", False) is True,
            takes=_takes(data.get("takes")),
            parent=parent,
            options={
                name: OptionSpec(spec["default"], spec.get("min"), spec.get("max"))
                for name, spec in data.get("options", {}).items()
            },
            files=tuple(_file(entry, path.parent / "files" / own_files, kept) for entry in data.get("files", ())),
            confidence=read_table(path, data["confidence"], f"{name}@{version}") if "confidence" in data else NO_TABLE,
            body={stage: data[stage] for stage in ("vad", "asr")} if kind == "bundle" else {},
        )
    except BadInput as error:
        raise BadInput(error.message if str(path) in error.message else f"{path}: {error.message}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: missing or wrong key {error}") from error
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from error


def _takes(value: Any) -> tuple[str, ...] | None:
    known = (PROMPT, HOTWORDS, TRANSLATION)
    if value is not None and (not isinstance(value, list) or not all(item in known for item in value)):
        raise BadInput(f"takes must be a list of some of {', '.join(known)}")
    return None if value is None else tuple(value)


FILE_KEYS = ("path", "sha256", "package", "url", "role")


def _file(entry: Mapping[str, Any], folder: Path, kept: Path | None) -> CardFile:
    """Return a file's entry of a card; BadInput if a key is not allowed or a value has another type."""
    values = dict(entry)
    sources, size = values.pop("sources", None), values.pop("size", 0)
    if not isinstance(size, int) or isinstance(size, bool):
        raise BadInput(f"the size of a file must be a whole number of bytes, not {size!r}")
    if wrong := [name for name, value in values.items() if name not in FILE_KEYS or not isinstance(value, str)]:
        raise BadInput(f"wrong key {wrong[0]!r} of a file")
    found = read_sources(sources, str(values["path"])) if sources is not None else ()
    return CardFile(**values, size=size, sources=found, folder=folder, kept=kept)


def shipped_models() -> Path:
    """Return the directory of the package's own cards: inside a wheel, or beside the package in a checkout."""
    package = Path(__file__).parents[2]
    inside = package / "_models"
    return inside if inside.is_dir() else package.parent / "models"
