"""A self-contained diagram of the cascade with the path of the symptoms."""

from html import escape

from speechpipe.monitor.blame.verdict import NO_STAGE, Verdict, label_of
from speechpipe.monitor.spec import CascadeSpec

BOX, GAP, TOP = 128, 48, 56
STYLE = (
    "text{font:13px sans-serif;fill:#222}.small{font-size:11px;fill:#555}.box{fill:#eef1f4;stroke:#8a949e}"
    ".moved{fill:#ffe9c7;stroke:#c77700}.blamed{fill:#f9c9c4;stroke:#b3261e;stroke-width:2.5}"
    ".arrow{fill:none;stroke:#8a949e;stroke-width:1.5}.path{stroke:#b3261e;stroke-width:3}"
)


def picture(spec: CascadeSpec, verdict: Verdict, title: str) -> str:
    """Return SVG: the blamed stage is red, stages whose metrics moved are yellow, the path between them is thick."""
    serving = [stage for stage in spec.stages if stage.served]
    other_stages = [stage for stage in spec.stages if not stage.served]
    moved = {finding.stage for finding in verdict.findings}
    place = {stage.name: (12 + index * (BOX + GAP), TOP) for index, stage in enumerate(serving)}
    place |= {stage.name: (12 + index * (BOX + GAP), TOP + 96) for index, stage in enumerate(other_stages)}
    width = 24 + len(serving) * (BOX + GAP) - GAP
    said = f"{title}: {verdict.label}. {verdict.reason}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} 250" width="{width}" role="img"'
        f' aria-label="{escape(said)}"><style>{STYLE}</style><title>{escape(said)}</title>',
        f'<rect width="{width}" height="250" fill="white"/>',
        f'<text x="12" y="24">{escape(title)}: {escape(verdict.label)}</text>',
    ]
    for stage in serving:
        for parent in stage.parents:
            hot = parent in moved | {verdict.blamed} and stage.name in moved and verdict.blamed != NO_STAGE
            parts.append(_arrow(place[parent], place[stage.name], "arrow path" if hot else "arrow"))
    for stage in spec.stages:
        x, y = place[stage.name]
        kind = "blamed" if stage.name == verdict.blamed else "moved" if stage.name in moved else ""
        strength = verdict.strengths.get(label_of(stage), 0.0)
        parts.append(
            f'<rect class="box {kind}" x="{x}" y="{y}" width="{BOX}" height="46" rx="6"/>'
            f'<text x="{x + BOX / 2}" y="{y + 20}" text-anchor="middle">{escape(stage.title)}</text>'
            f'<text class="small" x="{x + BOX / 2}" y="{y + 37}" text-anchor="middle">strength {strength:.1f}</text>'
        )
    for index, line in enumerate(verdict.path[:2] or (verdict.reason,)):
        parts.append(f'<text class="small" x="12" y="{224 + 16 * index}">{escape(line)}</text>')
    return "".join([*parts, "</svg>"]) + "\n"


def _arrow(start: tuple[int, int], end: tuple[int, int], kind: str) -> str:
    (x1, y1), (x2, y2) = start, end
    if x2 - x1 <= BOX + GAP:
        way = f"M{x1 + BOX},{y1 + 23} L{x2 - 8},{y2 + 23}"
        tip = f"M{x2 - 8},{y2 + 18} L{x2},{y2 + 23} L{x2 - 8},{y2 + 28} z"
    else:
        way = f"M{x1 + BOX - 20},{y1} Q{(x1 + x2 + BOX) / 2},{y1 - 40} {x2 + 20},{y2 - 8}"
        tip = f"M{x2 + 14},{y2 - 9} L{x2 + 20},{y2} L{x2 + 25},{y2 - 9} z"
    colour = "#b3261e" if "path" in kind else "#8a949e"
    return f'<path class="{kind}" d="{way}"/><path d="{tip}" fill="{colour}"/>'
