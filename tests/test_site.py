"""The documentation site: it builds without a warning, its reference is complete, and a dead link is found."""

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from speechpipe.config import Settings
from speechpipe.errors import HTTP_STATUS
from speechpipe.interfaces.cli import FAMILIES
from speechpipe.serving.telemetry.cascade_metrics import CASCADE
from tools import site
from tools.reference import PAGES, pages

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def reference() -> dict[str, str]:
    return pages()


def test_the_reference_has_everything_that_the_code_declares(reference: dict[str, str]) -> None:
    assert set(reference) == set(PAGES)
    for name in Settings.model_fields:
        assert f"`SPEECHPIPE_{name.upper()}`" in reference["settings.md"]
    for metric in CASCADE.by_name:
        assert f"`{metric}`" in reference["metrics.md"]
    for kind in HTTP_STATUS:
        assert f"`{kind.__name__}`" in reference["errors.md"]
    for family in FAMILIES:
        assert f" speechpipe {family.split('_')[0]}" in reference["cli.md"]
    for route in ("POST /v1/audio/transcriptions", "GET /readyz", "POST /v1/rollout/{action}"):
        assert f"## `{route}`" in reference["http.md"]


def test_the_messages_of_both_protocols_are_found_in_the_code(reference: dict[str, str]) -> None:
    text = reference["websockets.md"]
    for message in ("CloseStream", "Results", "UtteranceEnd", "session.update", "input_audio_buffer.commit"):
        assert f"`{message}`" in text
    for message in (
        "session.created",
        "conversation.item.input_audio_transcription.completed",
        "conversation.item.done",
    ):
        assert f"`{message}`" in text
    assert "{" not in "".join(re.findall(r"^Messages of .*$", text, re.MULTILINE)), "a name that was not filled in"


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r'= "([\w/.-]+\.md)"', (ROOT / "zensical.toml").read_text()))
    tomllib.loads((ROOT / "zensical.toml").read_text())
    written = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert listed == written | {f"reference/{name}" for name in PAGES}


@pytest.mark.long  # `make lint` builds it too
def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    assert site.build(tmp_path) == []
    assert (tmp_path / "build/site/reference/http.html").exists()


def test_dead_links_and_foreign_files_are_found(tmp_path: Path) -> None:
    (tmp_path / "one.html").write_text(
        '<h1 id="top">One</h1><a href="two.html#there">a</a><a href="https://x.example">b</a>'
    )
    (tmp_path / "two.html").write_text('<p id="there"></p><a href="one.html#nowhere">c</a><a href="three.html">d</a>')
    assert sorted(site.wrong_links(tmp_path)) == [
        "two.html: one.html#nowhere names no heading",
        "two.html: three.html leads nowhere",
    ]
    (tmp_path / "two.html").write_text('<script src="https://cdn.example/x.js"></script><p id="there"></p>')
    assert site.wrong_links(tmp_path) == ["two.html: loads https://cdn.example/x.js"]
