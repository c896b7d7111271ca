"""The figures of the fault benchmark as JSON data, as text, and its confusion matrix as SVG."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from speechpipe.bench.baselines import BASELINES
from speechpipe.bench.blame import (
    LABELS,
    OURS,
    PASSIVE,
    Outcome,
    Score,
    by_fault,
    confusion,
    delays,
    false_pages_a_day,
    interval,
    level_of,
    score,
)
from speechpipe.bench.faults import SEVERITIES
from speechpipe.bench.peers.catalogue import PEERS
from speechpipe.errors import BadInput, reason_of

CELL = 64


def document(outcomes: Sequence[Outcome], silent: Sequence[str], about: Mapping[str, Any]) -> dict[str, Any]:
    """Return all figures. Shares are {value, low, high, count}; delays are in utterances."""
    ours = score(outcomes, OURS, silent)
    noticed = [one for one in outcomes if one.plan.fault not in silent]
    unnoticed = [one for one in outcomes if one.plan.fault in silent]
    seconds = [one.verdict_s for one in outcomes]
    seen = [peer.name for peer in PEERS if any(peer.name in one.rankings for one in outcomes)]
    failed = Counter(name for one in outcomes for name in one.failed)
    return {
        **_score(ours),
        "delay_utterances": {severity: delays(noticed, severity) for severity in SEVERITIES},
        "false_alarms_per_day": false_pages_a_day(outcomes),
        "verdict_s": {"median": float(np.median(seconds)), "most": max(seconds)},
        "baselines": {name: _score(score(outcomes, name, silent)) for name in (PASSIVE, *BASELINES, *seen)},
        "failed": dict(failed),
        "missing": [peer.name for peer in PEERS if peer.name not in seen],
        "episodes": len(outcomes),
        "by_fault": by_fault(outcomes),
        "silent": by_fault(unnoticed),
        "confusion": {truth: dict(counts) for truth, counts in confusion(noticed).items()},
        **about,
    }


def second(folder: Path, seeds: int, quick: bool) -> dict[str, Any]:
    """Run the benchmark of another cascade: the module `benchmark.py` in `folder` must have `judged(seeds, healthy)`.

    Raises:
        BadInput: there is no such module, or a library that it needs is not installed.
    """
    sys.path.insert(0, str(folder.resolve().parents[1]))
    try:
        module = import_module(f"{folder.resolve().parent.name}.{folder.name}.benchmark")
    except ImportError as error:
        raise BadInput(f"{folder}: {reason_of(error)}") from error
    found = list(module.judged(seeds, 20 if quick else 100))
    hits = {
        severity: interval(float(ranking[0] == stage) for fault, mine, stage, ranking in found if mine == severity)
        for severity in SEVERITIES
    }
    return {
        "cascade": folder.name,
        "top1": {severity: asdict(cell) for severity, cell in hits.items()},
        "specificity": asdict(interval(float(ranking[0] == "none") for fault, _, _, ranking in found if not fault)),
        "episodes": len(found),
    }


def _score(found: Score) -> dict[str, Any]:
    return {
        "top1": {severity: asdict(found.top1[severity]) for severity in SEVERITIES},
        "top2": {severity: asdict(found.top2[severity]) for severity in SEVERITIES},
        "specificity": asdict(found.specificity),
    }


def text(found: Mapping[str, Any]) -> str:
    """Return the figures as tables for the terminal."""
    lines = [
        f"{found['episodes']} episodes, {found['clips']} recordings of {found['speakers']} speakers,"
        f" faults: {found['half']}",
        "",
        f"{'stage named right':26s}" + "".join(f"{severity:>22s}" for severity in SEVERITIES) + f"{'specificity':>22s}",
    ]
    methods = {OURS: found, **found["baselines"]}
    for name, figures in methods.items():
        cells = [figures["top1"][severity] for severity in SEVERITIES] + [figures["specificity"]]
        lines.append(f"{name:26s}" + "".join(f"{_cell(cell):>22s}" for cell in cells))
    cells = [found["top2"][severity] for severity in SEVERITIES]
    lines.append(f"{'  among the first two':26s}" + "".join(f"{_cell(cell):>22s}" for cell in cells))
    if found["failed"]:
        lines.append("  failed, counted as none: " + ", ".join(f"{name} {n}" for name, n in found["failed"].items()))
    if found["missing"]:
        lines.append("  not installed: " + ", ".join(found["missing"]))
    lines += ["", f"{'utterances to the alarm':26s}{'median':>10s}{'p90':>10s}{'detected':>10s}"]
    for severity in SEVERITIES:
        delay = found["delay_utterances"][severity]
        shown = [_count(delay["median"]), _count(delay["p90"]), _share(delay["detected"])]
        lines.append(f"  {severity:24s}" + "".join(f"{cell:>10s}" for cell in shown))
    lines += [
        "",
        f"false pages a day, at 10,000 utterances a day: {found['false_alarms_per_day']:.2f}",
        f"seconds from the records to the verdict: median {found['verdict_s']['median']:.2f},"
        f" most {found['verdict_s']['most']:.2f}",
        "",
        "faulty stage (rows), blamed stage (columns); medium and severe",
        f"{'':10s}" + "".join(f"{label:>8s}" for label in LABELS),
    ]
    for truth in LABELS[:-1]:
        counts = found["confusion"].get(truth, {})
        lines.append(f"{truth:10s}" + "".join(f"{counts.get(label, 0):8d}" for label in LABELS))
    lines += ["", f"{'named right, by fault':36s}" + "".join(f"{severity:>8s}" for severity in SEVERITIES)]
    for fault, figures in found["by_fault"].items():
        mark = " (silent)" if fault in found["silent"] else ""
        name = f"{level_of(fault)}: {fault}{mark}"
        lines.append(f"{name:36s}" + "".join(f"{_share(figures[severity]):>8s}" for severity in SEVERITIES))
    if "second" in found:
        lines += ["", f"the second cascade, {found['second']['cascade']}: {found['second']['episodes']} episodes"]
        cells = [found["second"]["top1"][severity] for severity in SEVERITIES] + [found["second"]["specificity"]]
        lines.append(f"{OURS:26s}" + "".join(f"{_cell(cell):>22s}" for cell in cells))
    return "\n".join(lines)


def _cell(cell: Mapping[str, Any]) -> str:
    if not cell["count"]:
        return "-"
    return f"{cell['value']:.3f} [{cell['low']:.3f}, {cell['high']:.3f}]"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _count(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f}"


def picture(found: Mapping[str, Any]) -> str:
    """Return the confusion matrix as SVG: rows are the faulty stages, columns the blamed stages."""
    labels = list(LABELS)
    width, height = (len(labels) + 1) * CELL + 20, len(labels) * CELL + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
        ' font-size="14" text-anchor="middle" role="img">',
        "<title>Faulty stage (rows) and blamed stage (columns)</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for column, label in enumerate(labels):
        parts.append(f'<text x="{(column + 1.5) * CELL}" y="{0.6 * CELL}">{escape(label)}</text>')
    for row, truth in enumerate(labels[:-1]):
        counts = found["confusion"].get(truth, {})
        total = max(sum(counts.values()), 1)
        top = (row + 1) * CELL
        parts.append(f'<text x="{0.5 * CELL}" y="{top + 0.6 * CELL}">{escape(truth)}</text>')
        for column, label in enumerate(labels):
            share = counts.get(label, 0) / total
            colour = "20,120,60" if truth == label else "190,40,40"
            left = (column + 1) * CELL
            ink = "white" if share > 0.6 else "black"
            parts.append(
                f'<rect x="{left}" y="{top}" width="{CELL}" height="{CELL}" fill="rgba({colour},{share:.2f})"'
                f' stroke="#bbb"/><text x="{left + CELL / 2}" y="{top + 0.6 * CELL}" fill="{ink}">{share:.0%}</text>'
            )
    return "\n".join([*parts, "</svg>", ""])
