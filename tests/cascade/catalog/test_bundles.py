"""Cards and bundles: what is shipped is whole, what is broken says where."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import shipped_models
from speechpipe.cascade.catalog.local import derived, install
from speechpipe.errors import BadInput, InvalidParameter, UnknownName
from tests.patience import PATIENCE_S


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue([shipped_models()])


def test_every_shipped_card_is_whole_and_every_file_has_its_hash(catalogue: Catalogue) -> None:
    known = [
        "accurate",
        "default",
        "digits",
        "embedded",
        "emformer",
        "fast",
        "hubert",
        "moonshine",
        "multilingual",
        "parakeet",
        "scripted",
        "sense-voice",
        "wav2vec2",
        "webrtc",
        "whisper",
        "zipformer",
    ]
    assert catalogue.names == known
    for card in catalogue.cards.values():
        assert card.description
        assert card.kind == "bundle" or (card.licence and card.source)
    for name in catalogue.names:
        bundle = catalogue.bundle(name)
        if not catalogue.absent(bundle):  # weights that are fetched at run time are not shipped
            assert catalogue.problems(bundle) == []


def test_a_bundle_carries_every_parameter(catalogue: Catalogue) -> None:
    bundle = catalogue.bundle("embedded")
    assert bundle.id == "embedded@1.0.0"
    assert set(bundle.asr.options) == set(catalogue.cards["asr", "pocketsphinx-en-us"].options)
    assert bundle.segmenter["max_segment_s"] == 20.0


def test_parameters_change_within_bounds(catalogue: Catalogue) -> None:
    bundle = catalogue.bundle("webrtc")
    changed = catalogue.changed(bundle, {"vad.threshold": 0.6, "vad.mode": 1, "asr.maxhmmpf": 1000})
    assert (changed.segmenter["threshold"], changed.vad.options["mode"], changed.asr.options["maxhmmpf"]) == (
        0.6,
        1,
        1000,
    )
    assert bundle.vad.options["mode"] == 3, "the bundle itself did not change"


@pytest.mark.parametrize(
    "changes",
    [
        {"vad.mode": 4},
        {"vad.mode": 1.5},
        {"vad.threshold": "high"},
        {"asr.fwdflat": 1},
        {"asr.beam": 1e-40},
        {"vad.treshold": 0.5},
        {"threshold": 0.5},
        {"store.url": "x"},
    ],
    ids=str,
)
def test_anything_else_is_refused_by_name(catalogue: Catalogue, changes: dict[str, float]) -> None:
    with pytest.raises(InvalidParameter) as caught:
        catalogue.changed(catalogue.bundle("webrtc"), changes)
    assert caught.value.param == next(iter(changes))


def test_an_unknown_bundle_lists_the_known_ones(catalogue: Catalogue) -> None:
    with pytest.raises(UnknownName, match="default, digits, embedded, emformer, "):
        catalogue.bundle("whisper-large")
    with pytest.raises(UnknownName, match="energy, silero, webrtc"):
        catalogue.with_parts(catalogue.bundle("default"), vad="cobra")


GOOD = """
kind = "bundle"
name = "mine"
version = "2"
description = "x"
languages = ["en"]
[vad]
card = "silero"
[vad.segmenter]
threshold = 0.6
[asr]
card = "scripted"
"""


def test_cards_of_ones_own_come_beside_and_before_the_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(GOOD)
    (tmp_path / "other.toml").write_text(GOOD.replace('"mine"', '"default"'))
    catalogue = Catalogue([shipped_models(), tmp_path])
    assert catalogue.bundle("mine").segmenter["threshold"] == 0.6
    assert catalogue.bundle("default").version == "2"


@pytest.mark.parametrize(
    "broken",
    [
        GOOD.replace("kind", "sort"),
        GOOD.replace('"silero"', '"cobra"'),
        GOOD.replace("0.6", "6"),
        GOOD.replace("threshold", "treshold"),
        GOOD.replace('kind = "bundle"', 'kind = "bag"'),
        GOOD + "[",
    ],
)
def test_a_broken_card_names_its_file(tmp_path: Path, broken: str) -> None:
    (tmp_path / "broken.toml").write_text(broken)
    with pytest.raises(BadInput, match=r"broken\.toml"):
        Catalogue([shipped_models(), tmp_path])


def test_a_file_with_another_hash_is_told(tmp_path: Path) -> None:
    card = (shipped_models() / "vad" / "silero.toml").read_text()
    digest = card.split('sha256 = "')[1][:64]
    (tmp_path / "silero.toml").write_text(card.replace(digest, "0" * 64))
    catalogue = Catalogue([shipped_models(), tmp_path])
    (problem,) = catalogue.problems(catalogue.bundle("embedded"))
    assert digest in problem
    assert "0" * 64 in problem


def added(folder: Path, name: str, catalogue: Catalogue) -> Path:
    """Add a variant as another process does: this catalogue is not told."""
    return install(derived(catalogue, catalogue.bundle("scripted"), name, "1.0.0", {}), folder, catalogue)


def test_a_card_that_came_later_is_found_when_its_name_is_asked_for(tmp_path: Path) -> None:
    catalogue = Catalogue([shipped_models(), tmp_path])
    added(tmp_path, "late1", catalogue)
    assert catalogue.bundle("late1").name == "late1"
    broken = tmp_path / "bundle" / "broken.toml"
    broken.write_text("kind =")
    for _ in range(3):
        with pytest.raises(UnknownName):
            catalogue.bundle("late2")
    broken.unlink()
    added(tmp_path, "late2", catalogue)
    assert catalogue.bundle("late2").name == "late2"
    assert catalogue.knows("late1")


class Watched(type(Path())):  # type: ignore[misc]
    """A folder of which a test sees when it is listed."""


def test_those_who_ask_for_unknown_names_at_once_share_a_look_that_reads_only_what_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = Catalogue([shipped_models(), Watched(tmp_path)])
    looks, reads = [0], list[object]()
    looking, go_on = threading.Event(), threading.Event()
    listed = Watched.rglob

    def counted(folder: Watched, pattern: str) -> Iterator[Path]:
        looks[0] += 1
        looking.set()
        assert go_on.wait(PATIENCE_S)
        found: Iterator[Path] = listed(folder, pattern)
        return found

    monkeypatch.setattr(Watched, "rglob", counted)
    monkeypatch.setattr("speechpipe.cascade.catalog.bundles.read_card", lambda *of: reads.append(of))

    def ask() -> None:
        with pytest.raises(UnknownName):
            catalogue.bundle("nobody")

    with ThreadPoolExecutor(21) as threads:
        first = threads.submit(ask)
        assert looking.wait(PATIENCE_S)
        asked = [threads.submit(ask) for _ in range(20)]
        go_on.set()
        for one in [first, *asked]:
            one.result(PATIENCE_S)
    # Those who came during the first look share the second. One that came later than that began may take a third.
    assert looks[0] <= 5
    assert not reads


def test_bundles_that_come_one_right_after_another_are_known_at_once(tmp_path: Path) -> None:
    catalogue = Catalogue([shipped_models(), tmp_path])
    for number in range(5):
        added(tmp_path, f"late{number}", catalogue)
        assert catalogue.bundle(f"late{number}").name == f"late{number}"


def test_on_an_event_loop_no_card_is_read(tmp_path: Path) -> None:
    catalogue = Catalogue([shipped_models(), tmp_path])
    added(tmp_path, "late1", catalogue)

    async def ask() -> None:
        with pytest.raises(UnknownName):
            catalogue.bundle("late1")
        await asyncio.to_thread(catalogue.look_again)
        assert catalogue.bundle("late1").name == "late1"

    asyncio.run(ask())
