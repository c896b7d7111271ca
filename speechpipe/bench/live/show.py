"""The figures of the live benchmark as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from speechpipe.bench.live.score import NONE, Felt, Outcome
from speechpipe.bench.live.table import SEVERITIES

HEAD = (
    f"{'fault':22s}{'severity':>9s}{'truth':>7s}{'words wrong':>13s}{'empty':>6s}{'p95 s':>12s}"
    f"  {'first alarm (after)':30s}{'alarms':>7s}{'pages':>6s}  {'verdict':9s}{'after':>6s}  {'also':8s} right"
)


def row(one: Outcome) -> str:
    """Return the line of a fault."""
    fault = one.fault
    alarm = f"{one.alarm} ({one.alarm_after})" if one.alarm else "-"
    if not one.alarm and one.open_before:
        alarm = f"- ({len(one.open_before)} open before)"
    said = "-" if one.verdict is None else one.verdict.label + ("" if one.verdict.decided else "?")
    others = [*one.verdict.also, *(f"({name})" for name in one.verdict.perhaps)] if one.verdict is not None else []
    also = ",".join(others)
    return (
        f"{fault.name:22.22s}{fault.severity:>9s}{fault.truth:>7s}{_change(one.before, one.felt):>13s}"
        f"{_share(one.felt.without_text):>6s}{_wait(one.before, one.felt):>12s}  {alarm:30s}{len(one.alarms):>7d}"
        f"{len(one.pages):>6d}  {said:9s}{_count(one.right_after, fault.truth):>6s}  {also or '-':8s}"
        f" {'yes' if one.right else 'NO'}"
    )


def reasons(outcomes: Sequence[Outcome]) -> list[str]:
    """Return what the server said in words: of each fault its alarms and its last verdict."""
    lines = []
    for one in outcomes:
        lines.append(f"{one.fault.name} ({one.fault.truth}): alarms {', '.join(one.alarms) or '-'}")
        if one.pages:
            lines.append(f"    pages: {', '.join(one.pages)}")
        if one.open_before:
            lines.append(f"    open before: {', '.join(one.open_before)}")
        if one.felt.failed:
            lines.append(f"    {one.felt.failed:.0%} of the sessions failed")
        if one.labels:
            lines.append(f"    verdicts: {' '.join(one.labels)}")
        if one.verdict is not None:
            lines.append(f"    {one.verdict.label} ({one.verdict.cases} cases): {one.verdict.reason}")
    return lines


def summary_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the summary."""
    lines = [
        f"{'':10s}{'faults':>8s}{'right':>8s}{'alarmed':>9s}{'paged':>7s}{'to alarm':>10s}{'to verdict':>12s}"
        "  (medians, in utterances)"
    ]
    for severity in SEVERITIES:
        mine = found["by_severity"][severity]
        if mine["faults"]:
            medians = "".join(
                f"{'-' if severity == 'harmless' else 'never' if value is None else f'{value:.0f}':>{width}s}"
                for value, width in ((mine["median_to_alarm"], 10), (mine["median_to_verdict"], 12))
            )
            counts = "".join(
                f"{mine[name]:>{width}d}" for name, width in (("faults", 8), ("right", 8), ("alarmed", 9), ("paged", 7))
            )
            lines.append(f"{severity:10s}{counts}{medians}")
    healthy, second = found["healthy"], found["second_faults"]
    lines += [
        "",
        f"healthy traffic: {healthy['utterances']} utterances in {healthy['stretches']} stretches,"
        f" {len(healthy['pages'])} pages, {healthy['alarms']} alarms,"
        f" {len(healthy['verdicts_that_name_a_stage'])} verdicts that name a stage",
        *(f"    page: {text}" for text in healthy["pages"]),
        *(f"    verdict: {text}" for text in healthy["verdicts_that_name_a_stage"]),
        f"{found['alarms']} alarms in {found['incidents']} incidents",
    ]
    if second["of"]:
        lines.append(
            f"two faults: one of them named in {second['first_right']} of {second['of']}, both in {second['named']},"
            f" both or one and not sure of the other in {second['named_or_unsure']}"
        )
    return lines


def text(outcomes: Sequence[Outcome], found: Mapping[str, Any]) -> str:
    """Return the table, what the server said in words, and the summary."""
    return "\n".join([HEAD, *map(row, outcomes), "", *reasons(outcomes), "", *summary_lines(found)])


def _change(before: Felt, now: Felt) -> str:
    return f"{_number(before.wrong)}->{_number(now.wrong)}"


def _wait(before: Felt, now: Felt) -> str:
    return f"{_seconds(before.wait_p95_s)}->{_seconds(now.wait_p95_s)}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}".removeprefix("0") if value < 1 else f"{value:.2f}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _count(value: int | None, truth: str) -> str:
    if truth == NONE:
        return "-"
    return "never" if value is None else str(value)
