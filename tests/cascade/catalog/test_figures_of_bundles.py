"""Figures beside the cards: whose they are, which win, and what becomes of a file that cannot be read."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from speechpipe.cascade.catalog import figures
from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import shipped_models

OF_SCRIPTED = figures.Figures(
    bundle="scripted@1.0.0",
    hash=Catalogue([shipped_models()]).digest(Catalogue([shipped_models()]).bundle("scripted")),
    wer=0.05,
    wer_low=0.03,
    wer_high=0.07,
    wer_alone=0.05,
    words=1000,
    normalizer="english",
    audio_s=300.0,
    cpu=0.03,
    finals=20,
    final_p50_ms=40,
    final_p95_ms=90,
    worker_rss_mb=200,
    load_s=1,
    manifests=("read/manifest.jsonl",),
    date="2026-11-27",
    machine="2 cores",
    version="0.2.0",
)


def test_what_is_written_is_found_while_the_catalogue_is_in_use(tmp_path: Path) -> None:
    catalogue = Catalogue([shipped_models(), tmp_path])
    bundle = catalogue.bundle("scripted")
    assert catalogue.figures(bundle) is None
    path = figures.write(OF_SCRIPTED, tmp_path)
    assert path == tmp_path / "figures" / "scripted-1.0.0.json"
    catalogue.look_again()
    assert catalogue.figures(bundle) == OF_SCRIPTED
    assert catalogue.bundle("scripted") == bundle


def test_those_in_a_later_folder_win(tmp_path: Path) -> None:
    for name, wer in (("shipped", 0.1), ("mine", 0.2)):
        figures.write(replace(OF_SCRIPTED, wer=wer), tmp_path / name)
    catalogue = Catalogue([shipped_models(), tmp_path / "shipped", tmp_path / "mine"])
    found = catalogue.figures(catalogue.bundle("scripted"))
    assert found is not None
    assert found.wer == 0.2


def test_a_bundle_that_has_changed_since_has_none(tmp_path: Path) -> None:
    figures.write(replace(OF_SCRIPTED, hash="0" * 64), tmp_path)
    catalogue = Catalogue([shipped_models(), tmp_path])
    assert catalogue.figures(catalogue.bundle("scripted")) is None


@pytest.mark.parametrize(
    "broken",
    [
        "{",
        "[]",
        json.dumps(OF_SCRIPTED.document() | {"wer": "much"}),
        json.dumps(OF_SCRIPTED.document() | {"words": 1.5}),
        json.dumps(OF_SCRIPTED.document() | {"finals": True}),
        json.dumps(OF_SCRIPTED.document() | {"manifests": "x"}),
        json.dumps(OF_SCRIPTED.document() | {"bundle": "../x@1"}),
        json.dumps({key: value for key, value in OF_SCRIPTED.document().items() if key != "cpu"}),
    ],
)
def test_a_broken_file_is_logged_and_stops_nothing(
    tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = figures.write(OF_SCRIPTED, tmp_path)
    path.write_text(broken)
    with caplog.at_level(logging.WARNING):
        catalogue = Catalogue([shipped_models(), tmp_path])
    assert catalogue.figures(catalogue.bundle("scripted")) is None
    assert str(path) in caplog.text


def test_fields_of_a_later_version_are_left_out(tmp_path: Path) -> None:
    more: dict[str, Any] = OF_SCRIPTED.document() | {"energy_j": 3}
    assert figures.parsed(more) == OF_SCRIPTED
