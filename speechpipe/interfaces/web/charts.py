"""Charts in SVG, rendered here so that a page can be sent as one self-contained file.

Colours are CSS variables of the page, for light and dark mode. Every chart has a title for screen readers, and every
point a tooltip.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from speechpipe.foundation.times import clock
from speechpipe.monitor.comparison import Grade
from speechpipe.monitor.report import DistributionRow, MetricRow, Report

WIDTH, HEIGHT = 460, 130
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 8, 20


def css(grade: Grade) -> str:
    """Return the CSS class of a grade."""
    return grade.label.replace(" ", "-")


def number(value: float | None) -> str:
    """Return a number formatted for display; a dash for None."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


class _Scale:
    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low, self._per = low, (end - start) / ((high - low) or 1.0)
        self._start = start

    def __call__(self, value: float) -> float:
        return round(self._start + (value - self._low) * self._per, 1)


def series(row: MetricRow, since: float, until: float, alarms: Sequence[tuple[float, float | None]] = ()) -> str:
    """Return a time series with the reference band, and alarms as shaded areas."""
    points = [point for point in row.series if point.value is not None]
    values = [point.value for point in points if point.value is not None]
    values += [point.high for point in points if point.high is not None and point.high < 20 * (max(values) or 1)]
    if row.band is not None:
        values += row.band
    title = f"{row.metric.help}, {row.metric.unit or 'share'}"
    if not values:
        return _svg(f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" class="muted" text-anchor="middle">no data</text>', title)
    low, high = min(*values, 0.0), max(values)
    high = high if high > low else low + 1.0
    x = _Scale(since, until, LEFT, WIDTH - RIGHT)
    y = _Scale(low, high * 1.05 if high > 0 else high + 0.05 * (high - low), HEIGHT - BOTTOM, TOP)
    parts = [
        f'<rect class="alarm" x="{x(max(start, since))}" y="{TOP}" height="{HEIGHT - TOP - BOTTOM}"'
        f' width="{max(2.0, x(min(end or until, until)) - x(max(start, since)))}"><title>alarm</title></rect>'
        for start, end in alarms
    ]
    if row.band is not None:
        top, bottom = y(row.band[1]), y(row.band[0])
        parts.append(
            f'<rect class="band" x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}"'
            f' height="{max(1.0, bottom - top)}"><title>where most points lie in the reference</title></rect>'
        )
    path = " ".join(f"{x(point.at)},{y(point.value or 0.0)}" for point in points)
    parts.append(f'<polyline class="line" points="{path}" />')
    parts += [
        f'<circle class="dot" cx="{x(point.at)}" cy="{y(point.value or 0.0)}" r="2.2">'
        f"<title>{clock(point.at, days=True)} UTC: {number(point.value)} ({point.count})</title></circle>"
        for point in points
    ]
    return _svg("".join(parts) + _axes(low, high, y, since, until), title)


def _axes(low: float, high: float, y: _Scale, since: float, until: float) -> str:
    days = until - since > 86_400
    texts = [
        f'<text x="{LEFT - 4}" y="{y(value) + 4}" text-anchor="end" class="muted">{number(value)}</text>'
        for value in (low, high)
    ]
    texts.append(f'<text x="{LEFT}" y="{HEIGHT - 5}" class="muted">{clock(since, days=days)}</text>')
    texts.append(
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 5}" text-anchor="end" class="muted">{clock(until, days=days)}</text>'
    )
    line = f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}" />'
    return line + "".join(texts)


def distribution(row: DistributionRow, title: str, unit: str) -> str:
    """Return a histogram of the present values as bars, with the reference as a line."""
    now, before = row.now[1:-1], row.reference[1:-1]
    if not now:
        return _svg(f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" class="muted" text-anchor="middle">no data</text>', title)
    highest = max((*now, *before)) or 1.0
    x = _Scale(row.edges[0], row.edges[-1], LEFT, WIDTH - RIGHT)
    y = _Scale(0.0, highest * 1.05, HEIGHT - BOTTOM, TOP)
    parts = []
    for index, share in enumerate(now):
        start, end = row.edges[index], row.edges[index + 1]
        text = f"{number(start)}–{number(end)} {unit}: {share:.1%}"
        parts.append(
            f'<rect class="bar" x="{x(start) + 0.5}" y="{y(share)}" width="{max(0.5, x(end) - x(start) - 1)}"'
            f' height="{max(0.0, HEIGHT - BOTTOM - y(share))}"><title>{text}</title></rect>'
        )
    if before:
        middles = [(row.edges[index] + row.edges[index + 1]) / 2 for index in range(len(before))]
        path = " ".join(f"{x(middle)},{y(share)}" for middle, share in zip(middles, before, strict=True))
        parts.append(f'<polyline class="reference" points="{path}"><title>reference</title></polyline>')
    labels = (
        f'<text x="{LEFT}" y="{HEIGHT - 5}" class="muted">{number(row.edges[0])} {unit}</text>'
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 5}" text-anchor="end" class="muted">{number(row.edges[-1])}</text>'
        f'<text x="{LEFT - 4}" y="{TOP + 8}" text-anchor="end" class="muted">{highest:.0%}</text>'
    )
    return _svg("".join(parts) + labels, title)


def agreement(days: Sequence[Mapping[str, Any]]) -> str:
    """Return the word error rate by day with its intervals; `days` have day, value, low, high, reviewed."""
    title = "word error rate by the day of the review"
    found = [day for day in days if day["value"] is not None]
    if not found:
        return _svg(f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" class="muted" text-anchor="middle">no data</text>', title)
    since, until = found[0]["day"], found[-1]["day"]
    high = max(min(day["high"], 1.5) for day in found) or 1.0
    x = _Scale(since, max(until, since + 1.0), LEFT + 8, WIDTH - RIGHT - 8)
    y = _Scale(0.0, high * 1.05, HEIGHT - BOTTOM, TOP)
    parts = [
        f'<line class="arrow" x1="{x(day["day"])}" x2="{x(day["day"])}" y1="{y(day["low"])}"'
        f' y2="{y(min(day["high"], high))}" /><circle class="dot" cx="{x(day["day"])}" cy="{y(day["value"])}" r="3">'
        f"<title>{clock(day['day'], days=True)[:6]}: {day['value']:.1%} of {day['reviewed']} segments</title></circle>"
        for day in found
    ]
    path = " ".join(f"{x(day['day'])},{y(day['value'])}" for day in found)
    line = f'<polyline class="line" points="{path}" />'
    return _svg(line + "".join(parts) + _axes(0.0, high, y, since, max(until, since + 86_401.0)), title)


def cascade(report: Report) -> str:
    """Return a diagram of the cascade: a box for each serving stage, coloured by grade, and arrows from its parents."""
    rows = [row for row in report.stages if row.stage.served]
    box, gap, height = 104, 36, 84
    place = {row.stage.name: 6 + index * (box + gap) for index, row in enumerate(rows)}
    parts = [
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" class="tip" /></marker></defs>'
    ]
    for row in rows:
        for parent in row.stage.parents:
            start, end = place[parent] + box, place[row.stage.name]
            bend = 40 if end - start <= gap else 14
            way = f"M{start},40 L{end},40" if bend == 40 else f"M{start - 20},22 Q{(start + end) / 2},-8 {end + 20},22"
            parts.append(f'<path class="arrow" d="{way}" marker-end="url(#tip)" />')
    for row in rows:
        left = place[row.stage.name]
        reason = escape("; ".join(row.reasons) or "nothing to report")
        parts.append(
            f'<g><title>{reason}</title><rect x="{left}" y="22" width="{box}" height="40" rx="6"'
            f' class="box {css(row.grade)}" /><text x="{left + box / 2}" y="39" text-anchor="middle" class="name">'
            f'{escape(row.stage.title)}</text><text x="{left + box / 2}" y="54" text-anchor="middle"'
            f' class="name small">{row.grade.label}</text></g>'
        )
    width = 12 + len(rows) * (box + gap) - gap
    said = ", ".join(f"{row.stage.title} {row.grade.label}" for row in rows)
    return (
        f'<svg viewBox="0 0 {width} {height}" class="cascade" role="img" aria-label="{escape(said)}">'
        f"{''.join(parts)}</svg>"
    )


def _svg(inside: str, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" class="plot" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{inside}</svg>"
    )
