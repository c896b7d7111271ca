"""The figures on the pages are those that the benchmarks recorded; `--record` writes what was measured."""

import json
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tools import figures

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
VARIANTS = {"chaos_postgresql": "chaos"}
"""Files that a benchmark writes with another option."""

OF_THE_COMMAND = {
    "capacity_one",
    "capacity",
    "capacity_scripted",
    "capacity_whisper",
    "detectors",
    "blame",
    "rollout",
}
"""Results of `speechpipe bench`, and not of a script in `benchmarks/`."""

NO_FLAG = {"peer_server", "live_faults", "replay", "rollout_load", "evidently_drift", "live_blame"}
"""Scripts that print what is put into their files by hand."""

measure: Any = import_module("benchmarks.measure")


@pytest.mark.parametrize("name", ["README.md", "docs/figures.md", "docs/how-to/which-recognizer.md"])
def test_the_pages_are_what_the_script_makes_of_the_results(name: str) -> None:
    assert (ROOT / name).read_text() == figures.pages()[name], "run python tools/figures.py"


def test_no_table_of_figures_is_written_by_hand() -> None:
    before, _, rest = (ROOT / "docs/figures.md").read_text().partition(figures.BEGIN)
    made, end, after = rest.partition(figures.END)
    assert end
    assert made.count("\n| ") > 60
    assert "|---" not in before + after
    in_readme = (ROOT / "README.md").read_text().partition(figures.BEGIN)[2].partition(figures.END)[0]
    assert len(in_readme.splitlines()) == 2 + len(figures.SHOWN_FIRST) == 7


def test_every_result_is_complete_and_has_a_section() -> None:
    listed = [name for _, names in figures.SECTIONS for name in names]
    assert len(listed) == len(set(listed))
    for name, result in figures.results().items():
        assert name in listed, f"{name} is in no section of tools/figures.py"
        assert re.fullmatch(r"\d{4}-\d{2}(-\d{2})?", result.date)
        assert result.machine
        assert result.version
        assert result.rows
        for row in result.rows:
            assert row.what
            assert row.measured
            command = row.command.split()
            assert command[:2] == ["speechpipe", "bench"] or (ROOT / command[1]).exists(), row.command


def test_every_benchmark_with_a_result_takes_the_flag() -> None:
    for _, names in figures.SECTIONS:
        for name in set(names) - OF_THE_COMMAND:
            text = (BENCHMARKS / f"{VARIANTS.get(name, name)}.py").read_text()
            flag = "add_record(parser)" in text or ("board.show()" in text and "argparse" not in text)
            assert flag == (name not in NO_FLAG), name


def test_a_figure_of_the_readme_that_is_gone_is_said() -> None:
    found = figures.results()
    found["rollout"] = found["rollout"]._replace(rows=())
    with pytest.raises(figures.MissingFigure, match="rollout"):
        figures.first_figures(found)


def test_cells_are_safe_and_what_was_missed_is_bold() -> None:
    row = figures.Row("a | b", "<= 1", "2 | 3", good=False, command="python x.py")
    assert r"| a \| b | <= 1 | **2 \| 3** | `python x.py` |" in figures.table([row])
    marked = row._replace(measured="13: **71 %**")
    assert "| 13: **71 %** |" in figures.table([marked])


# ---- recording ----


def test_a_board_records_only_if_it_is_told_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    board = measure.Board("a try")
    board.add("  words wrong", "<= 5 %", "7 %", good=False)
    board.add("words", "", "210")
    written: list[Path] = []
    monkeypatch.setattr(measure, "record", lambda rows: written.append(record(rows, tmp_path)))
    monkeypatch.setattr(sys, "argv", ["benchmarks/some_speed.py", "--device", "cpu"])
    with pytest.raises(SystemExit):
        board.show()
    assert written == []
    monkeypatch.setattr(sys, "argv", ["benchmarks/some_speed.py", "--device", "cpu", "--record"])
    with pytest.raises(SystemExit):
        board.show()
    (path,) = written
    assert path.name == "some_speed.json"
    data = json.loads(path.read_text())
    first = {"what": "words wrong", "asked": "<= 5 %", "measured": "7 %", "good": False}
    assert data["rows"][0] == first | {"command": "python benchmarks/some_speed.py --device cpu"}
    assert data["rows"][1]["good"] is None
    assert data["machine"].endswith(f"Python {sys.version.split()[0]}")
    assert data["version"]
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", data["date"])


def test_what_is_recorded_replaces_what_was_and_is_read_by_the_pages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmarks/floods.py", "--record"])
    for value in ("5.1 ms", "6.2 ms"):
        record([measure.Figure("`/livez` p99", "< 100 ms", value, True)], tmp_path)
    page = figures.all_figures(figures.results())
    assert "6.2 ms" in page
    assert "5.1 ms" not in page
    assert "`python benchmarks/floods.py`" in page
    assert figures.results()["floods"].machine in page


def test_the_command_names_no_place_of_this_machine(tmp_path: Path) -> None:
    clips = [str(ROOT / "audio_samples" / name) for name in ("digits.flac", "noise.flac", "silence.flac")]
    said = measure.command_line([str(BENCHMARKS / "live_soak.py"), *clips, "--sessions", "10", "--record"])
    assert said == "python benchmarks/live_soak.py audio_samples/*.flac --sessions 10"
    assert (
        measure.command_line(["x/store_kill.py", clips[0]])
        == "python benchmarks/store_kill.py audio_samples/digits.flac"
    )
    assert measure.command_line(["a.py", "--only", "idle"]) == "python benchmarks/a.py --only idle"


record = measure.record


# ---- the README ----


def test_the_readme_is_short_and_shows_the_picture() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 110
    (picture,) = re.findall(r"!\[.+\]\((.+)\)", readme)
    data = (ROOT / picture).read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) < 300_000
