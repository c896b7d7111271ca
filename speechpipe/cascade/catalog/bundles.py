"""The catalogue of bundles: reads and checks all cards, and resolves bundles to components and parameters."""

import asyncio
import contextlib
import hashlib
import json
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

from speechpipe.cascade.asr import taken
from speechpipe.cascade.catalog import figures
from speechpipe.cascade.catalog.cards import Card, read_card
from speechpipe.cascade.vad.segmenter import SegmenterOptions
from speechpipe.errors import BadInput, InvalidParameter, UnknownName
from speechpipe.foundation.stats.calibration import ConfidenceTable, Prior
from speechpipe.types import Bundle, Component, Scalar

SEGMENTER_NAMES = frozenset(field.name for field in fields(SegmenterOptions))


LOOK_S = 0.02
"""Least seconds between two checks for changed cards. Concurrent callers share one check of about a millisecond, so
that requests with unknown names use at most a twentieth of one thread."""

log = logging.getLogger(__name__)


class Catalogue:
    """All cards of some directories; a card in a later directory replaces one of the same name. Thread-safe."""

    def __init__(self, directories: Sequence[Path], weights: Path | None = None) -> None:
        """Read and check all cards. `weights`: folder for what is fetched; None: the last directory.

        Raises:
            BadInput: a card is invalid, or names another that does not exist.
        """
        self._directories = tuple(directories)
        self._weights = weights
        self.cards: dict[tuple[str, str], Card] = {}  # by kind and name, and by kind and name@version
        self._bundles: dict[str, Bundle] = {}
        self._by_id: dict[str, tuple[Bundle, Card]] = {}
        self._figures: dict[str, figures.Figures] = {}
        self._lock = threading.RLock()
        self._seen: frozenset[tuple[str, int, int]] = frozenset()
        self._looked_at = 0.0
        self.reload()

    def reload(self) -> None:
        """Read the directories again. If a card is invalid, the catalogue stays as it was.

        Raises:
            BadInput: a card is invalid, or names another that does not exist.
        """
        with self._lock:
            self._looked_at, self._seen = time.monotonic(), self._files()
            self._read()

    def look_again(self) -> None:
        """Read the cards again if their files have changed. Blocks on the disk, and up to `LOOK_S` more.

        Afterwards all files written before the call are known. If a card is invalid, this is logged once and the
        catalogue stays as it was.
        """
        called_at = time.monotonic()
        with self._lock:
            if self._looked_at > called_at:
                return  # another thread has checked while this one waited for the lock
            time.sleep(max(0.0, self._looked_at + LOOK_S - time.monotonic()))
            self._looked_at = time.monotonic()
            if self._files() == self._seen:
                return
            try:
                self.reload()
            except BadInput as error:
                log.warning("changed cards are ignored, the known ones stay in use: %s", error)

    def _paths(self, directory: Path) -> list[Path]:
        return sorted(directory.rglob("*.toml")) if directory.is_dir() else []

    def _files(self) -> frozenset[tuple[str, int, int]]:
        """Return path, modification time and size of every card and file of figures, to detect changes."""
        found = set()
        for path in (
            path for directory in self._directories for path in (*self._paths(directory), *figures.paths(directory))
        ):
            with contextlib.suppress(OSError):  # deleted since it was listed
                stat = path.stat()
                found.add((str(path), stat.st_mtime_ns, stat.st_size))
        return frozenset(found)

    def _read(self) -> None:
        cards: dict[tuple[str, str], Card] = {}
        own = self._directories[-1] if self._directories else None  # weights are fetched into this one
        for directory in self._directories:
            for path in self._paths(directory):
                card = read_card(path, own if directory != own else None, self._weights)
                cards[card.kind, card.id] = card
                # A retrained version must be tried first: it does not replace the version of the bare name.
                if not card.parent or (card.kind, card.name) not in cards:
                    cards[card.kind, card.name] = card
        before, self.cards = self.cards, cards
        try:
            of_bundles = {card.id: card for (kind, _), card in cards.items() if kind == "bundle"}
            by_id = {id_: (self._build(card), card) for id_, card in of_bundles.items()}
        except BadInput:
            self.cards = before or cards
            raise
        self._by_id = by_id
        self._figures = {
            id_: found for directory in self._directories for id_, found in figures.read(directory).items()
        }
        self._bundles = {card.name: by_id[card.id][0] for card in self.of_kind("bundle")}

    def of_kind(self, kind: str) -> list[Card]:
        """Return the cards of one kind, ordered by name: for each name the version that it stands for."""
        return [card for (of, name), card in sorted(self.cards.items()) if of == kind and name == card.name]

    def versions(self, kind: str) -> list[Card]:
        """Return the cards of one kind, in all versions."""
        return [card for (of, name), card in sorted(self.cards.items()) if of == kind and name == card.id]

    @property
    def names(self) -> list[str]:
        """Names of all bundles."""
        return sorted(self._bundles)

    def knows(self, name: str) -> bool:
        """Whether the cards read so far have a bundle of this name."""
        return name in self._by_id or name in self._bundles

    def bundle(self, name: str) -> Bundle:
        """Return a bundle by its name, or one version of it by `name@version`.

        For an unknown name the cards are read again, except on an event loop, where the caller must call `look_again`
        on a thread before.

        Raises:
            UnknownName: no such bundle; the message lists those that exist.
        """
        if not self.knows(name) and not _on_event_loop():
            self.look_again()
        if name in self._by_id:
            return self._by_id[name][0]
        if name not in self._bundles:
            raise UnknownName(f"the model {name!r} does not exist; known: {', '.join(self.names)}", param="model")
        return self._bundles[name]

    def changed(self, bundle: Bundle, changes: Mapping[str, Scalar]) -> Bundle:
        """Return `bundle` with changed parameters, such as `vad.threshold` or `asr.maxhmmpf`.

        Raises:
            InvalidParameter: a parameter is unknown, or a value is out of bounds.
        """
        segmenter: dict[str, Scalar] = {}
        options: dict[str, dict[str, Scalar]] = {"vad": {}, "asr": {}}
        for full_name, value in changes.items():
            stage, _, name = full_name.partition(".")
            if stage not in options or not name:
                raise InvalidParameter(f"unknown parameter {full_name}; use vad.NAME or asr.NAME", param=full_name)
            if stage == "vad" and name in SEGMENTER_NAMES:
                segmenter[name] = value
            else:
                options[stage][name] = value
        vad = self.part("vad", bundle)
        if unknown := options["vad"].keys() - vad.options.keys():
            known = ", ".join(sorted(SEGMENTER_NAMES | vad.options.keys()))
            name = sorted(unknown)[0]
            raise InvalidParameter(f"unknown parameter vad.{name}; known: {known}", param=f"vad.{name}")
        asr = self.part("asr", bundle)
        return replace(
            bundle,
            vad=_component(vad, {**bundle.vad.options, **options["vad"]}, "vad"),
            asr=_component(asr, {**bundle.asr.options, **options["asr"]}, "asr"),
            segmenter=_segmenter({**bundle.segmenter, **segmenter}),
        )

    def with_parts(self, bundle: Bundle, vad: str | None = None, asr: str | None = None) -> Bundle:
        """Return `bundle` with another VAD or recognizer, with the defaults of its card.

        Raises:
            UnknownName: there is no card of that name.
        """
        if vad is not None:
            bundle = replace(bundle, vad=_component(self._card("vad", vad), {}, "vad"))
        if asr is not None:
            bundle = replace(bundle, asr=_component(self._card("asr", asr), {}, "asr"))
        return bundle

    def _card(self, kind: str, name: str) -> Card:
        card = self.cards.get((kind, name))
        if card is None:
            known = ", ".join(other.name for other in self.of_kind(kind))
            raise UnknownName(f"unknown {kind} {name!r}; known: {known}", param=kind)
        return card

    def _build(self, card: Card) -> Bundle:
        vad, asr = card.body["vad"], card.body["asr"]
        try:
            return Bundle(
                name=card.name,
                version=card.version,
                description=card.description,
                languages=card.languages,
                vad=_component(self._card("vad", vad["card"]), vad.get("options", {}), "vad"),
                asr=_component(self._card("asr", asr["card"]), asr.get("options", {}), "asr"),
                segmenter=_segmenter(vad.get("segmenter", {})),
            )
        except (BadInput, KeyError) as error:
            raise BadInput(f"{card.path}: {error}") from error

    def digest(self, bundle: Bundle) -> str:
        """Return a SHA-256 over the components, parameters and file hashes of a bundle."""
        content = {
            "id": bundle.id,
            "vad": [bundle.vad.name, bundle.vad.version, bundle.vad.implementation, dict(bundle.vad.options)],
            "asr": [bundle.asr.name, bundle.asr.version, bundle.asr.implementation, dict(bundle.asr.options)],
            "segmenter": dict(bundle.segmenter),
            "files": sorted(file.hash for card in self.parts(bundle) for file in card.files),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def differences(self, first: Bundle, second: Bundle) -> list[tuple[str, str, str]]:
        """Return (parameter, value in the first, value in the second) of all that differ; "" where it is missing."""
        sides = [self._flat(bundle) for bundle in (first, second)]
        names = sorted(sides[0].keys() | sides[1].keys())
        pairs = [(name, sides[0].get(name, ""), sides[1].get(name, "")) for name in names]
        return [pair for pair in pairs if pair[1] != pair[2]]

    def _flat(self, bundle: Bundle) -> dict[str, str]:
        found = {"version": bundle.version}
        for stage, part in (("vad", bundle.vad), ("asr", bundle.asr)):
            found[stage] = f"{part.name}@{part.version}"
            found |= {f"{stage}.{name}": str(value) for name, value in part.options.items()}
            for file in self.part(stage, bundle).files:
                found[f"{stage}.files.{file.path}"] = file.hash[:12]
        return found | {f"vad.{name}": f"{value:g}" for name, value in bundle.segmenter.items()}

    def part(self, stage: str, bundle: Bundle) -> Card:
        """Return the card of a bundle's component; `stage` is `vad` or `asr`."""
        component: Component = getattr(bundle, stage)
        return self.cards[stage, f"{component.name}@{component.version}"]

    def parts(self, bundle: Bundle) -> tuple[Card, Card]:
        """Return the cards of a bundle's VAD and recognizer."""
        return self.part("vad", bundle), self.part("asr", bundle)

    def card_of(self, bundle: Bundle) -> Card:
        """Return the card of a bundle."""
        return self._by_id[bundle.id][1]

    def figures(self, bundle: Bundle) -> "figures.Figures | None":
        """Return what was measured of a bundle as it is now; None if nothing was, or if it has changed since."""
        found = self._figures.get(bundle.id)
        return found if found is not None and found.hash == self.digest(bundle) else None

    def confidence(self, bundle: Bundle) -> ConfidenceTable:
        """Return what the confidences of a bundle's recognizer mean; empty if its card has no table."""
        return self.part("asr", bundle).confidence

    def prior(self, bundle_id: str) -> Prior:
        """Return the calibration of segments that comes with a bundle; an empty one if there is no such bundle."""
        found = self._by_id.get(bundle_id)
        return self.confidence(found[0]).utterances if found is not None else Prior()

    def absent(self, bundle: Bundle) -> list[str]:
        """Return the files of a bundle that can be fetched and are not on this machine."""
        return [file.path for card in self.parts(bundle) for file in card.absent]

    def missing(self, bundle: Bundle) -> list[str]:
        """Return all files of a bundle that are not on this machine."""
        return [file.path for card in self.parts(bundle) for file in card.files if file.locate() is None]

    def require(self, bundle: Bundle) -> None:
        """Check that all files of a bundle are on this machine.

        Raises:
            UnknownName: some are not; the message says what to do.
        """
        if absent := self.absent(bundle):
            message = f"the weights of {bundle.id} are missing ({absent[0]}): speechpipe models pull {bundle.asr.name}"
            raise UnknownName(message, param="model", cause="weights_missing")
        if missing := self.missing(bundle):
            message = f"the weights of {bundle.id} are missing ({missing[0]}): see speechpipe doctor"
            raise UnknownName(message, param="model", cause="weights_missing")

    def problems(self, bundle: Bundle) -> list[str]:
        """Return the problems of a bundle's files; empty if all are present with the right hashes."""
        return [problem for card in self.parts(bundle) for file in card.files if (problem := file.problem())]


def _on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _component(card: Card, options: Mapping[str, Scalar], prefix: str) -> Component:
    files = tuple(file.given() for file in card.files if file.role)
    values = card.resolve(options, prefix)
    takes = taken(card.implementation, values, card.languages, card.takes) if card.kind == "asr" else frozenset()
    return Component(card.name, card.version, card.implementation, values, files, card.punctuated, takes)


def _segmenter(values: Mapping[str, Scalar]) -> dict[str, float]:
    """Check segmenter parameters and return all of them, with defaults."""
    options = SegmenterOptions().changed(values)  # type: ignore[arg-type]  # it checks the types itself
    found = {field.name: getattr(options, field.name) for field in fields(options)}
    if found["negative_threshold"] is None:
        del found["negative_threshold"]
    return found
