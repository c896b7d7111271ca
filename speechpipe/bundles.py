"""Bundles: VAD + recognizer + every parameter under one version, resolved from the cards and checked."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

from speechpipe.cards import Card, read_card
from speechpipe.errors import BadInput, InvalidParameter, UnknownName
from speechpipe.types import Bundle, Component, Scalar
from speechpipe.vad.segmenter import SegmenterOptions

SEGMENTER_NAMES = frozenset(field.name for field in fields(SegmenterOptions))


class Catalogue:
    """All cards of some directories; later directories win over earlier ones."""

    def __init__(self, directories: Sequence[Path]) -> None:
        """Read and check every card.

        Raises:
            BadInput: a card is broken or names another that does not exist.
        """
        self.cards: dict[tuple[str, str], Card] = {}
        for directory in directories:
            for path in sorted(directory.rglob("*.toml")):
                card = read_card(path)
                self.cards[card.kind, card.name] = card
        self._bundles = {card.name: self._build(card) for card in self.of_kind("bundle")}

    def of_kind(self, kind: str) -> list[Card]:
        """Return the cards of one kind, by name."""
        return [card for (of, _), card in sorted(self.cards.items()) if of == kind]

    @property
    def names(self) -> list[str]:
        """Names of all bundles."""
        return sorted(self._bundles)

    def bundle(self, name: str) -> Bundle:
        """Return a bundle.

        Raises:
            UnknownName: the message lists those that exist.
        """
        if name not in self._bundles:
            raise UnknownName(f"the model {name!r} does not exist; known: {', '.join(self.names)}", param="model")
        return self._bundles[name]

    def changed(self, bundle: Bundle, changes: Mapping[str, Scalar]) -> Bundle:
        """Return `bundle` with parameters such as `vad.threshold` or `asr.maxhmmpf` set to other values.

        Raises:
            InvalidParameter: an unknown parameter, or a value out of its bounds.
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
        vad = self.cards["vad", bundle.vad.name]
        if unknown := options["vad"].keys() - vad.options.keys():
            known = ", ".join(sorted(SEGMENTER_NAMES | vad.options.keys()))
            name = sorted(unknown)[0]
            raise InvalidParameter(f"unknown parameter vad.{name}; known: {known}", param=f"vad.{name}")
        asr = self.cards["asr", bundle.asr.name]
        return replace(
            bundle,
            vad=_component(vad, {**bundle.vad.options, **options["vad"]}, "vad"),
            asr=_component(asr, {**bundle.asr.options, **options["asr"]}, "asr"),
            segmenter=_segmenter({**bundle.segmenter, **segmenter}),
        )

    def with_parts(self, bundle: Bundle, vad: str | None = None, asr: str | None = None) -> Bundle:
        """Return `bundle` with another VAD or recognizer, at that one's defaults.

        Raises:
            UnknownName: no card of that name.
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

    def problems(self, bundle: Bundle) -> list[str]:
        """Return what is wrong with the files of a bundle's components; empty when all hashes are right."""
        cards = (self.cards["vad", bundle.vad.name], self.cards["asr", bundle.asr.name])
        return [problem for card in cards for file in card.files if (problem := file.problem())]


def _component(card: Card, options: Mapping[str, Scalar], prefix: str) -> Component:
    return Component(card.name, card.version, card.implementation, card.resolve(options, prefix))


def _segmenter(values: Mapping[str, Scalar]) -> dict[str, float]:
    """Check segmenter parameters and return all of them, the derived ones too."""
    options = SegmenterOptions().changed(values)  # type: ignore[arg-type]  # it checks the types itself
    found = {field.name: getattr(options, field.name) for field in fields(options)}
    if found["negative_threshold"] is None:
        del found["negative_threshold"]
    return found
