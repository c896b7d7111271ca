"""`speechpipe blame`: which stage degraded, from the records in a store."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechpipe.interfaces.cli import app
from speechpipe.interfaces.cli.flags import StoreOption

if TYPE_CHECKING:
    from speechpipe.monitor.blame.verdict import Verdict

COLOURS = {"none": "green"}


class Format(StrEnum):
    """Output formats of verdicts."""

    TEXT = "text"
    JSON = "json"
    SVG = "svg"


@app.command()
def blame(
    since: Annotated[str, typer.Option(help="2026-11-23T10:00 (UTC), or an age: 90m, 24h.")] = "6h",
    window: Annotated[
        tuple[str, str], typer.Option(help="Instead: from A to B, assuming that the change began at A.", metavar="A B")
    ] = ("", ""),
    store: StoreOption = "",
    tenant_class: Annotated[str, typer.Option(help="Only this class: consumer or enterprise.")] = "",
    channel: Annotated[str, typer.Option(help="Only this channel: upload, listen or realtime.")] = "",
    bundle: Annotated[str, typer.Option(help="Only this bundle.")] = "",
    tenant: Annotated[str, typer.Option(help="Only the traffic of this tenant, as reports name it.")] = "",
    reference: Annotated[int, typer.Option(help="Compare with this reference, instead of the pinned one.")] = 0,
    format_: Annotated[Format, typer.Option("--format", help="svg: a diagram of the cascade.")] = Format.TEXT,
    output: Annotated[Path | None, typer.Option("-o", help="Write to this file instead of standard output.")] = None,
) -> None:
    """Print which stage degraded, the evidence, and what would refute it: a verdict for each group of traffic."""
    from speechpipe.errors import BadInput, InvalidParameter
    from speechpipe.interfaces.cli.watching import cascade, moment, operations
    from speechpipe.interfaces.web.blame import picture
    from speechpipe.monitor.blame.documents import document
    from speechpipe.monitor.report import Filters

    begin, end, onset = moment(since), moment(""), None
    if window[0]:
        begin, end = moment(window[0]), moment(window[1])
        onset = begin
        if end <= begin:
            raise InvalidParameter("the window must end after it begins", param="window")
    filters = Filters(tenant_class or None, channel or None, bundle or None)
    found = operations(store).verdicts(begin, end, filters, reference, onset, tenant)
    if not found:
        raise BadInput("there was no traffic in that time" + (f" of tenant {tenant!r}" if tenant else ""))
    if format_ is Format.JSON:
        documents = [{"group": group._asdict(), **document(cascade(), verdict)} for group, verdict in found]
        written = json.dumps(documents, indent=2) + "\n"
    elif format_ is Format.SVG:
        written = "\n".join(picture(cascade(), verdict, group.label) for group, verdict in found)
    else:
        written = "\n".join(_text(group.label, verdict) for group, verdict in found)
    if output is not None:
        output.write_text(written, encoding="utf-8")
    else:
        typer.echo(written, nl=False)


def _text(label: str, verdict: "Verdict") -> str:
    from speechpipe.foundation.times import clock

    lines = [f"{label}: {verdict.label}" + "".join(f", also {other}" for other in verdict.also)]
    lines[0] += "".join(f", perhaps also {other}" for other in verdict.perhaps)
    lines.append(f"  {verdict.reason}")
    if verdict.since is not None:
        lines.append(f"  since {clock(verdict.since, days=True)} UTC, {verdict.cases} sessions")
    lines += [
        f"  evidence: {finding.metric} {finding.kind}, strength {finding.strength:.1f}" for finding in verdict.findings
    ]
    lines += [f"  probes: {probe.stage} {probe.failed} of {probe.of} differ" for probe in verdict.probes]
    lines += [
        f"  of the change of {part.metric}: {part.stage} {part.value:+.3g} [{part.low:+.3g}, {part.high:+.3g}]"
        for part in verdict.contributions
    ]
    if verdict.refuted_if:
        lines.append(f"  {verdict.refuted_if}")
    return "\n".join(lines) + "\n"
