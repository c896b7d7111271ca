"""The walks in docs/architecture.md name files that exist, and are no longer than they may be."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST = {
    "one upload": 19,
    "one live frame": 12,
    "a record to its alarm": 10,
    "the start of a rollout": 9,
    "the answer of a review": 8,
}
"""Files that somebody must open to follow each."""


def section(text: str) -> str:
    """Return what stands under "Five walks"."""
    return text.split("\n## Five walks\n")[1].split("\n## ", maxsplit=1)[0]


WALKS = section((ROOT / "docs" / "architecture.md").read_text())


def files_of(walk: str) -> list[str]:
    """Return the files of a walk, in their order."""
    lines = next(part for part in WALKS.split("\n### ") if part.lower().startswith(f"{walk}\n"))
    return re.findall(r"^\d+\. `([^`]+)`", lines, flags=re.MULTILINE)


@pytest.mark.parametrize("walk", MOST)
def test_a_walk_names_files_that_exist_and_is_short(walk: str) -> None:
    files = files_of(walk)
    assert [name for name in files if not (ROOT / "speechpipe" / name).is_file()] == []
    assert len(set(files)) == len(files)
    assert 3 < len(files) <= MOST[walk]
    assert f"| {walk} | {len(files)} | {MOST[walk]} |" in WALKS


@pytest.mark.parametrize(
    "text", re.findall(r"`([a-z_]+(?:/[a-z_]+)+\.py)`", (ROOT / "docs" / "architecture.md").read_text())
)
def test_every_file_that_the_architecture_names_exists(text: str) -> None:
    places = [ROOT / "speechpipe" / text, ROOT / text]
    assert any(place.is_file() for place in places) or list((ROOT / "speechpipe").rglob(text)), text
