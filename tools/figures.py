"""Put the figures of `benchmarks/results/*.json` into docs/figures.md and README.md, and those of the shipped bundles
(`models/figures/*.json`) into docs/how-to/which-recognizer.md. A test holds that they are there.

    python tools/figures.py

A benchmark writes its file with `--record` (`record` in `benchmarks/measure.py`): date, machine, version, and rows of
what, asked, measured, good, command. `make recognizers` writes those of bundles. The tables stand between two comments;
the prose around them is written by hand.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple

from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.figures import Figures

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MODELS = ROOT / "models"
BEGIN = "<!-- begin: made by tools/figures.py from benchmarks/results/ -->\n"
BEGIN_BUNDLES = "<!-- begin: made by tools/figures.py from models/figures/ -->\n"
END = "<!-- end -->\n"

SECTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "Recognition",
        ("cascade_quality", "whisper_windows", "biasing", "vad_speed", "pocketsphinx_cli", "decoder_settings"),
    ),
    ("Overhead, memory, start", ("overhead", "server", "short_uploads")),
    (
        "Live audio",
        (
            "live_finals",
            "live_peer",
            "capacity_whisper",
            "capacity_one",
            "capacity",
            "capacity_scripted",
            "peer_server",
            "live_faults",
            "live_soak",
        ),
    ),
    ("Monitoring", ("monitor_cost", "store", "store_kill", "detectors", "evidently_drift")),
    ("Blame", ("blame", "live_blame", "replay")),
    ("Rollouts", ("rollout", "rollout_load")),
    ("People in the loop", ("review_kill", "promises")),
    ("Training", ("ctc_speed", "new_speaker", "lm_adaptation", "vad_fitting")),
    (
        "Faults and floods",
        ("floods", "chaos", "chaos_postgresql", "fault_injection", "fuzz_files", "fuzz_live", "schemathesis_run"),
    ),
)
"""Headings of docs/figures.md, and the files under each, in the order of the page."""

SHOWN_FIRST = (
    ("whisper_windows", r"words wrong on .* read clips"),
    ("live_finals", r"endpoint decision to final"),
    ("blame", r"stage named right"),
    ("rollout", r"rolled back though equal"),
    ("store_kill", r"acknowledged feedback missing"),
)
"""The five figures of the README: a file, and what its row says."""


class Row(NamedTuple):
    """A figure with its command. `good` is False where what was asked was missed."""

    what: str
    asked: str
    measured: str
    good: bool | None
    command: str


class Result(NamedTuple):
    """What one benchmark recorded."""

    name: str
    date: str
    machine: str
    version: str
    rows: tuple[Row, ...]


class MissingFigure(LookupError):
    """A figure of the README is in no file."""


def results() -> dict[str, Result]:
    """Return every result, by the name of its file."""
    found = {}
    for path in sorted(RESULTS.glob("*.json")):
        data = json.loads(path.read_text())
        rows = tuple(Row(**row) for row in data["rows"])
        found[path.stem] = Result(path.stem, data["date"], data["machine"], data["version"], rows)
    return found


def pages() -> dict[str, str]:
    """Return what each page should hold, by its path in the repository."""
    found = results()
    return {
        "docs/figures.md": between((ROOT / "docs" / "figures.md").read_text(), all_figures(found)),
        "README.md": between((ROOT / "README.md").read_text(), table(first_figures(found))),
        BUNDLES_PAGE: between((ROOT / BUNDLES_PAGE).read_text(), bundle_figures(), BEGIN_BUNDLES),
    }


def between(page: str, inside: str, begin: str = BEGIN) -> str:
    """Return the page with `inside` between its two comments."""
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(END)
    return f"{before}{begin}{inside}{END}{after}"


BUNDLES_PAGE = "docs/how-to/which-recognizer.md"


def bundle_figures() -> str:
    """Return the table of the shipped bundles that were measured, how, and the names of the others."""
    catalogue = Catalogue([MODELS])
    measured = [found for name in catalogue.names if (found := catalogue.figures(catalogue.bundle(name)))]
    lines = [
        "| bundle | words wrong | without VAD | CPU | final p50, p95 | worker | date |",
        "|---|---|---|---|---|---|---|",
        *(_bundle_row(found) for found in sorted(measured, key=lambda found: found.wer)),
        "",
    ]
    words: dict[tuple[tuple[str, ...], str, str], set[int]] = {}
    for found in measured:
        words.setdefault((tuple(found.manifests), found.machine, found.version), set()).add(found.words)
    for (manifests, machine, version), counts in words.items():  # they differ where errors change how numbers are split
        count = " or ".join(map(str, sorted(counts)))
        lines.append(f"`make recognizers`: {', '.join(manifests)}, {count} words; {machine}; speechpipe {version}.")
    known = {found.bundle for found in measured}
    rest = [bundle for name in catalogue.names if (bundle := catalogue.bundle(name)).id not in known]
    fetched = [
        bundle.name for bundle in rest if any(file.remote for card in catalogue.parts(bundle) for file in card.files)
    ]
    lines += ["", f"Not run with their released weights: {', '.join(f'`{name}`' for name in fetched)}."]
    return "\n" + "\n".join(lines) + "\n\n"


def _bundle_row(found: Figures) -> str:
    latency = f"{found.final_p50_ms:.0f}, {found.final_p95_ms:.0f} ms" if found.finals else "-"
    wrong = f"{found.wer:.1%} [{found.wer_low:.1%}, {found.wer_high:.1%}]"
    cells = (
        f"`{found.bundle.partition('@')[0]}`",
        wrong.replace("%", " %"),
        f"{found.wer_alone:.1%}".replace("%", " %"),
        f"{found.cpu:.3f}",
        latency,
        f"{found.worker_rss_mb:.0f} MB",
        found.date,
    )
    return f"| {' | '.join(cells)} |"


def all_figures(found: dict[str, Result]) -> str:
    """Return the sections of docs/figures.md, and where and when each file was measured."""
    parts = []
    for heading, names in SECTIONS:
        rows = [(row, found[name].date) for name in names if name in found for row in found[name].rows]
        if rows:
            parts.append(f"## {heading}\n\n{dated_table(rows)}\n")
    machines: dict[tuple[str, str], list[str]] = {}
    for result in found.values():
        machines.setdefault((result.machine, result.version), []).append(result.name)
    parts.append("## Machines\n\n")
    for (machine, version), measured in machines.items():
        listed = "all" if len(machines) == 1 else ", ".join(f"`{name}`" for name in measured)
        parts.append(f"- {machine}; speechpipe {version}: {listed}.\n")
    return "\n" + "".join(parts) + "\n"


def first_figures(found: dict[str, Result]) -> list[Row]:
    """Return the five rows of the README.

    Raises:
        MissingFigure: a file or a row is not there, for example because a benchmark names its rows differently now.
    """
    rows = []
    for name, pattern in SHOWN_FIRST:
        mine = found[name].rows if name in found else ()
        row = next((row for row in mine if row.asked and re.search(pattern, row.what)), None)
        if row is None:
            raise MissingFigure(f"benchmarks/results/{name}.json has no row that says {pattern!r}")
        rows.append(row)
    return rows


def table(rows: list[Row]) -> str:
    """Return a table of rows with their commands."""
    lines = ["| what | asked | measured | command |", "|---|---|---|---|"]
    lines += [f"| {_cells(row)} | `{row.command}` |" for row in rows]
    return "\n".join(lines) + "\n"


def dated_table(rows: list[tuple[Row, str]]) -> str:
    """The same with a date. A command that repeats the one above is a ditto mark."""
    lines = ["| what | asked | measured | date | command |", "|---|---|---|---|---|"]
    before = ""
    for row, date in rows:
        command = '"' if row.command == before else f"`{row.command}`"
        lines.append(f"| {_cells(row)} | {date} | {command} |")
        before = row.command
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> str:
    measured = f"**{row.measured}**" if row.good is False and "**" not in row.measured else row.measured
    return " | ".join(cell.replace("|", r"\|") for cell in (row.what, row.asked, measured))


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        (ROOT / name).write_text(text)


if __name__ == "__main__":
    main()
