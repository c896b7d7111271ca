"""The runs of `speechpipe bench blame --live --write RUN.json` together, those of one condition as one.

`python benchmarks/live_blame.py` prints the table of the runs in `benchmarks/runs/live_blame/`;
`python benchmarks/live_blame.py --keep RUN.json --condition "digits, probes"` keeps what it needs of a run there.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

KEPT = Path(__file__).parent / "runs" / "live_blame"
SEVERITIES = ("severe", "medium", "mild", "harmless")


def kept(run: dict[str, Any], condition: str, date: str, names: Sequence[str] = ()) -> dict[str, Any]:
    """Return what is kept of a run: its outcomes, of `names` only if there are some, and its healthy traffic."""
    healthy = run["summary"]["healthy"]
    return {
        "condition": condition,
        "date": date,
        "machine": run["machine"],
        "bundle": run["bundle"],
        "minutes": round(run["seconds"] / 60),
        "healthy_utterances": healthy["utterances"],
        "pages_in_healthy": healthy["pages"],
        "alarms": run["summary"]["alarms"],
        "incidents": run["summary"]["incidents"],
        "outcomes": [_outcome(one) for one in run["faults"] if not names or one["fault"]["name"] in names],
    }


def _outcome(one: dict[str, Any]) -> dict[str, Any]:
    fault, verdict = one["fault"], one["verdict"]
    return {
        "fault": fault["name"],
        "truth": fault["truth"],
        "severity": fault["severity"],
        "said": None if verdict is None else verdict["label"],
        "right": one["right"],
        "alarm_after": one["alarm_after"],
        "right_after": one["right_after"],
        "pages": len(one["pages"]),
        "incidents": one["incidents"],
        "wrong_before": one["before"]["wrong"],
        "wrong": one["felt"]["wrong"],
        "wait_p95_s": one["felt"]["wait_p95_s"],
        "both": one["also_named"],
        "unsure": one.get("unsure"),
    }


def table(runs: Sequence[dict[str, Any]]) -> str:
    """Return the table of all runs."""
    lines = []
    for condition in dict.fromkeys(run["condition"] for run in runs):
        mine = [run for run in runs if run["condition"] == condition]
        outcomes = [one for run in mine for one in run["outcomes"]]
        lines += [f"{condition}: {len(mine)} run{'s' if len(mine) > 1 else ''}, {len(outcomes)} faults"]
        lines += [_severity(name, [one for one in outcomes if one["severity"] == name]) for name in SEVERITIES]
        doubles = [one for one in outcomes if one["both"] is not None]
        if doubles:
            unsure = [one for one in doubles if one["unsure"] is not None]
            lines.append(
                f"  two faults: one named {sum(one['right'] for one in doubles)} of {len(doubles)}, both"
                f" {sum(one['both'] for one in doubles)}, both or not sure of a second"
                f" {sum(one['unsure'] for one in unsure)} of {len(unsure)}"
            )
        rang = [one["incidents"] for one in outcomes if one["truth"] != "none" and one["alarm_after"] is not None]
        spoken, pages = (
            sum(run["healthy_utterances"] for run in mine),
            sum(len(run["pages_in_healthy"]) for run in mine),
        )
        if rang:
            lines.append(f"  incidents a fault that rang: {sum(rang) / len(rang):.2f}")
        lines.append(f"  healthy between: {spoken:,} utterances, {pages} pages")
        wrong = [
            f"{one['fault']} ({one['truth']}: {one['said'] or 'no verdict'})" for one in outcomes if not one["right"]
        ]
        lines += [f"  not right: {', '.join(wrong)}" if wrong else "  all right", ""]
    return "\n".join(lines)


def _severity(name: str, mine: Sequence[dict[str, Any]]) -> str:
    if not mine:
        return f"  {name:9s} -"
    line = f"  {name:9s} right {sum(one['right'] for one in mine)} of {len(mine)} ({_share(mine)})"
    if name == "harmless":
        return f"{line}, with pages {sum(bool(one['pages']) for one in mine)}"
    alarm, verdict = (_median([one[key] for one in mine]) for key in ("alarm_after", "right_after"))
    return f"{line}; utterances to the first alarm {alarm}, to the right verdict {verdict} (medians)"


def _share(mine: Sequence[dict[str, Any]]) -> str:
    return f"{sum(one['right'] for one in mine) / len(mine):.2f}"


def _median(values: Sequence[int | None]) -> str:
    """Return the median in words; what never came is infinite."""
    middle = median(float("inf") if value is None else float(value) for value in values)
    return "never" if middle == float("inf") else f"{middle:.0f}"


def main() -> None:
    """Keep a run, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="a file that `--write` has written")
    parser.add_argument("--condition", default="", help="recordings, probes or none, what ran beside it")
    parser.add_argument("--only", default="", help="keep these faults only, separated by commas")
    parser.add_argument("--date", default="", help="of the run, as 2026-11-28")
    parser.add_argument("--name", default="", help="the name of the kept file")
    given = parser.parse_args()
    if given.keep is not None:
        if not (given.condition and given.date and given.name):
            parser.error("--keep wants --condition, --date and --name")
        KEPT.mkdir(parents=True, exist_ok=True)
        names = [name for name in given.only.split(",") if name]
        found = kept(json.loads(given.keep.read_text()), given.condition, given.date, names)
        (KEPT / f"{given.name}.json").write_text(json.dumps(found, indent=1) + "\n")
        return
    runs = [json.loads(file.read_text()) for file in sorted(KEPT.glob("*.json"))]
    sys.stdout.write(table(runs))


if __name__ == "__main__":
    main()
