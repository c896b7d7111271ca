"""Cards: TOML files that say what a VAD, a recognizer or a bundle is, where it comes from and what may be set."""

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from speechpipe.errors import BadInput, InvalidParameter, said
from speechpipe.types import ModelFile, Scalar

KINDS = ("vad", "asr", "bundle")
SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class OptionSpec:
    """One option of an implementation: its default, and its bounds where it is a number."""

    default: Scalar
    least: float | None = None
    most: float | None = None

    def check(self, name: str, value: Scalar) -> Scalar:
        """Return `value` in the type of the default.

        Raises:
            InvalidParameter: another type, or out of bounds.
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
    """A file of weights, with its hash: inside an installed package, beside its card, or fetched by `models pull`.

    A file with a `role` is handed to the implementation; the others are only checked.
    """

    path: str
    sha256: str = ""
    package: str = ""
    url: str = ""
    role: str = ""
    folder: Path | None = None  # of what is not in a package

    def __post_init__(self) -> None:
        if self.package and self.url:
            raise BadInput(f"the file {self.path!r} needs either a package or a url, or neither")
        if not SHA256.fullmatch(self.sha256) and (self.sha256 or not self.url):
            raise BadInput(f"the file {self.path!r} needs the sha256 of its bytes, 64 hexadecimal digits")
        if Path(self.path).is_absolute() or ".." in Path(self.path).parts:
            raise BadInput(f"the file {self.path!r} must lie inside its folder")

    @property
    def target(self) -> Path | None:
        """Where a file that is not in a package belongs."""
        return self.folder / self.path if self.folder is not None and not self.package else None

    @property
    def hash(self) -> str:
        """The sha256 that the file must have; empty: nobody has published one and it was never fetched."""
        if self.sha256 or self.target is None:
            return self.sha256
        try:
            found = first_seen(self.target).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""
        return found if SHA256.fullmatch(found) else ""

    def given(self) -> ModelFile:
        """Return what the implementation is handed; a file that is missing is missed when it is loaded."""
        return ModelFile(self.role, self.locate() or self.target or Path(self.path), self.hash)

    def locate(self) -> Path | None:
        """Return where the file is, without importing the package; None if it is not there."""
        if not self.package:
            return self.target if self.target is not None and self.target.is_file() else None
        spec = find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            return None
        path = Path(spec.submodule_search_locations[0]) / self.path
        return path if path.is_file() else None

    def problem(self) -> str:
        """Return what is wrong with the file, or nothing."""
        path = self.locate()
        if path is None:
            if self.url:
                return f"{self.path} (from {self.url}) is missing; `speechpipe models pull` fetches it"
            return f"{self.package}:{self.path} is missing" if self.package else f"{self.target} is missing"
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if not self.hash:
            return f"{path} was never checked; `speechpipe models pull` fetches it"
        who = "the card says" if self.sha256 else "when it was first fetched it was"
        return "" if found == self.hash else f"{path} has sha256 {found}, {who} {self.hash}"


def first_seen(target: Path) -> Path:
    """Return where the sha256 of a fetched file is kept whose publisher says none: what came first is what it is."""
    return target.with_name(target.name + ".sha256")


@dataclass(frozen=True, slots=True)
class Card:
    """One card, checked."""

    kind: str
    name: str
    version: str
    description: str
    languages: tuple[str, ...]
    path: Path
    implementation: str = ""
    source: str = ""
    licence: str = ""
    parent: str = ""  # name@version of what it was retrained from: then it is used only where its version is named
    options: Mapping[str, OptionSpec] = field(default_factory=dict)
    files: tuple[CardFile, ...] = ()
    body: Mapping[str, Any] = field(default_factory=dict)  # of a bundle: its [vad] and [asr] tables

    @property
    def id(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    def resolve(self, changes: Mapping[str, Scalar], prefix: str) -> dict[str, Scalar]:
        """Return every option with `changes` applied.

        Raises:
            InvalidParameter: an option that the card does not name, or a value out of its bounds.
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


def read_card(path: Path) -> Card:
    """Read one card.

    Raises:
        BadInput: not TOML, or a key is missing or wrong; the message names the file.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        kind = data["kind"]
        if kind not in KINDS:
            raise BadInput(f"{path}: kind must be one of {', '.join(KINDS)}")
        return Card(
            kind=kind,
            name=str(data["name"]),
            version=str(data["version"]),
            description=str(data["description"]),
            languages=tuple(data["languages"]),
            path=path,
            implementation="" if kind == "bundle" else str(data["implementation"]),
            source=str(data.get("source", "")),
            licence=str(data.get("licence", "")),
            parent=str(data.get("parent", "")),
            options={
                name: OptionSpec(spec["default"], spec.get("min"), spec.get("max"))
                for name, spec in data.get("options", {}).items()
            },
            files=tuple(CardFile(**entry, folder=_fetched(path, data)) for entry in data.get("files", ())),
            body={stage: data[stage] for stage in ("vad", "asr")} if kind == "bundle" else {},
        )
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise BadInput(f"{path}: {said(error)}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: missing or wrong key {error}") from error


def _fetched(card: Path, data: Mapping[str, Any]) -> Path:
    """Return the folder of a card's own files: beside the card, one for each version."""
    return card.parent / "files" / f"{data['name']}-{data['version']}"


def shipped_models() -> Path:
    """Return the directory of the package's own cards: inside a wheel, or beside the package in a checkout."""
    package = Path(__file__).parent
    inside = package / "_models"
    return inside if inside.is_dir() else package.parent / "models"
