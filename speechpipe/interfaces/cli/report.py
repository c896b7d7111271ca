"""`speechpipe report`: the health report of a running server or of a store."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechpipe.interfaces.cli import app
from speechpipe.interfaces.cli.flags import StoreOption

if TYPE_CHECKING:
    from rich.console import Console

COLOURS = {"ok": "green", "not watched": "yellow", "degraded": "yellow", "failing": "red bold", "no data": "dim"}
EXIT = {"ok": 0, "no data": 0, "not watched": 0, "degraded": 3, "failing": 4}


class Format(StrEnum):
    """Output formats of a report."""

    TEXT = "text"
    JSON = "json"
    HTML = "html"


@app.command()
def report(
    url: Annotated[str, typer.Option(help="A running server, for instance http://127.0.0.1:8000.")] = "",
    store: StoreOption = "",
    last: Annotated[str, typer.Option(help="Length of the period: 90m, 24h, 7d.")] = "1h",
    until: Annotated[str, typer.Option(help="End of the period: 2026-11-23T10:00 (UTC), or an age. For stores.")] = "",
    tenant_class: Annotated[str, typer.Option(help="consumer or enterprise")] = "",
    channel: Annotated[str, typer.Option(help="upload, listen or realtime")] = "",
    bundle: Annotated[str, typer.Option(help="A name, or name@version.")] = "",
    format_: Annotated[Format, typer.Option("--format", help="html: one self-contained file.")] = Format.TEXT,
    output: Annotated[Path | None, typer.Option("-o", help="Write to this file instead of standard output.")] = None,
    key: Annotated[str, typer.Option(help="API key of the server.", envvar="SPEECHPIPE_KEY")] = "",
    check: Annotated[bool, typer.Option(help="Exit with 3 if degraded, 4 if failing.")] = False,
) -> None:
    """Print the health of the cascade, stage by stage, with its figures."""
    from speechpipe.interfaces.cli.watching import duration_s

    query = {"tenant_class": tenant_class, "channel": channel, "bundle": bundle}
    seconds = duration_s(last)
    if url:
        text, verdict = _ask(url, {**query, "minutes": f"{seconds / 60:g}"}, format_, key)
    else:
        text, verdict = _read(store, seconds, until, query, format_)
    if output is not None:
        output.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    if check:
        raise typer.Exit(EXIT[verdict])


def _read(store: str, seconds: float, until: str, query: dict[str, str], format_: Format) -> tuple[str, str]:
    from speechpipe.control.review import documents as review_documents
    from speechpipe.interfaces.cli.watching import moment, operations, review_operations
    from speechpipe.interfaces.web import health as health_page
    from speechpipe.monitor.report import Filters
    from speechpipe.serving.health import documents as health_documents

    filters = Filters(**{name: value or None for name, value in query.items()})
    found = operations(store).report(seconds, filters, moment(until))
    people = review_documents.people(review_operations(store).people(found.facts.since))
    if format_ is Format.HTML:
        return health_page.whole(found, people), found.grade.label
    return _written(health_documents.document(found, people), format_), found.grade.label


def _ask(url: str, query: dict[str, str], format_: Format, key: str) -> tuple[str, str]:
    import httpx

    from speechpipe.errors import BadInput, SpeechpipeError

    asked = {name: value for name, value in query.items() if value}
    if not url.startswith(("http://", "https://")):
        raise BadInput(f"{url!r} is not the URL of a server")

    headers = {"Authorization": f"Bearer {key}"} if key else {}

    def get(**more: str) -> httpx.Response:
        answer = httpx.get(
            f"{url.rstrip('/')}/v1/health/report", params=asked | more, headers=headers, timeout=60, trust_env=False
        )
        if answer.is_success:
            return answer
        try:
            said = str(answer.json()["error"]["message"])
        except (ValueError, KeyError, TypeError):  # the answer of a proxy or another program
            said = answer.reason_phrase
        raise BadInput(f"{url} answers {answer.status_code}: {said}")

    try:
        data = get().json()
        verdict = str(data["verdict"])
        page = get(format="html").text if format_ is Format.HTML else ""
    except httpx.TimeoutException as error:
        raise SpeechpipeError(f"{url} did not answer within 60 s") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SpeechpipeError(f"{url} cannot be reached: {error or type(error).__name__}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"the answer of {url} is not a health report; is it a speechpipe server?") from error
    return page or _written(data, format_), verdict


def _written(data: dict[str, Any], format_: Format) -> str:
    if format_ is Format.JSON:
        return json.dumps(data, indent=1) + "\n"
    from io import StringIO

    from rich.console import Console

    shown = Console().is_terminal
    console = Console(file=StringIO(), force_terminal=shown, width=None if shown else 120)
    _print(console, data)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def _wrong(data: dict[str, Any]) -> list[str]:
    """Return lines on incidents, alarms, groups in which a stage is blamed, and changes of the service."""
    from speechpipe.foundation.times import clock

    lines = incident_lines(data)
    blamed = [found for found in data["blame"] if found["verdict"] != "none"]
    lines += [f"  blame: {one['verdict']} [{one['group_label']}] {one['reason']}" for one in blamed]
    return lines + [f"  changed at {clock(one['at'])} UTC: {one['text']}" for one in data.get("changes", ())]


def incident_lines(data: dict[str, Any]) -> list[str]:
    """Return lines on incidents with their alarms, and on the alarms that belong to none."""
    from speechpipe.foundation.times import clock

    def said(alarm: dict[str, Any]) -> str:
        seen = f", acknowledged by {alarm['acknowledged_by']}" if alarm["acknowledged_by"] else ""
        text = f"{alarm['state']} ({alarm['severity']}{seen}): {alarm['reason']} [{alarm['group']}] {alarm['id']}"
        return f"  alarm {text}"

    lines = []
    for one in data.get("incidents", ()):
        count = f"{len(one['alarms'])} alarm" + ("s" if len(one["alarms"]) > 1 else "")
        lines.append(
            f"  incident {one['id']} {one['state']} ({one['severity']}), {count} since {clock(one['since'])} UTC:"
            f" {one['reason']} [{', '.join(one['groups'])}]"
        )
        lines += [f"    blame: {one['blame']}"] if one["blame"] else []
        lines.append(f"    look: {one['look']}; {one['runbook']}")
        lines += _concerned(one)
        lines += [f"  {said(alarm)}" for alarm in data["alarms"] if alarm["id"] in one["alarms"]]
    return lines + [said(alarm) for alarm in data["alarms"] if not alarm.get("incident")]


def _concerned(one: dict[str, Any]) -> list[str]:
    """Return lines on the sessions that an incident concerns."""
    lines = []
    if (found := one.get("concerned")) is not None:  # an older server does not say it
        whose = "; ".join(f"{tenant['name']} {tenant['sessions']} of {tenant['of']}" for tenant in one["tenants"])
        lines.append(f"    {found['sessions']} of {found['of']} sessions" + (f": {whose}" if whose else ""))
    return lines + ([f"    sessions that show it: {', '.join(one['sessions'])}"] if one["sessions"] else [])


def _said_by_people(data: dict[str, Any]) -> list[str]:
    """Return a line for waiting reviews, and for each reviewed bundle."""
    people = data.get("people") or {"bundles": [], "waiting": {}}
    waiting = sum(sum(people["waiting"].get(state, {}).values()) for state in ("open", "leased"))
    lines = [f"{waiting} sessions wait for a reviewer: speechpipe review list"] if waiting else []
    for one in people["bundles"]:
        wer = one["wer"]
        if wer["value"] is not None:
            shown = f"{wer['value']:.1%} [{wer['low']:.1%}, {wer['high']:.1%}]"
            lines.append(f"{one['bundle']}, reviewed: word error rate {shown} on {one['segments']} segments")
    return lines


def progress_lines(progress: list[dict[str, Any]]) -> list[str]:
    """Return a line for each group without a reference."""
    from speechpipe.serving.health.documents import progress_text

    return [
        f"no reference for {one['group_label']} yet: {progress_text(one)}"
        for one in progress
        if one["utterances"] < one["needed"]
    ]


def _print_arms(console: "Console", data: dict[str, Any]) -> None:
    """Print the metrics of each bundle on each arm, if there are several."""
    from rich.table import Table

    from speechpipe.interfaces.web.charts import number

    if len(data["bundles"]) < 2:
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    table.add_column("side by side")
    for row in data["bundles"]:
        table.add_column(f"{row['bundle']}\n{row['arm']}", justify="right")
    table.add_row("", "sessions", *(str(row["sessions"]) for row in data["bundles"]))
    for stage in data["stages"]:
        for metric in stage["metrics"]:
            if metric["name"] in data["bundles"][0]["metrics"]:
                cells = [number(row["metrics"][metric["name"]]) for row in data["bundles"]]
                table.add_row(stage["title"], metric["help"], *cells)
    console.print(table)


def _print(console: "Console", data: dict[str, Any]) -> None:
    from rich.table import Table

    from speechpipe.foundation.times import clock
    from speechpipe.interfaces.web.charts import number

    def shown(verdict: str) -> str:
        return f"[{COLOURS[verdict]}]{verdict}[/]"

    span = f"{clock(data['since'], days=True)} to {clock(data['until'], days=True)} UTC"
    console.print(f"{data['cascade']} cascade, {span}: {shown(data['verdict'])}")
    console.print("  ".join(f"{stage['title']} {shown(stage['verdict'])}" for stage in data["stages"]))
    traffic, nulls = data["traffic"], data["nulls"]
    share = "-" if nulls["share"] is None else f"{nulls['share']:.1%}"
    console.print(f"{traffic['sessions']} sessions, {traffic['utterances']} utterances, {share} null")
    for stage in data["stages"]:
        for reason in stage["reasons"]:
            console.print(f"  {stage['title']}: {reason}", markup=False)
    for line in _wrong(data):
        console.print(line, markup=False)
    table = Table(box=None, pad_edge=False)
    for title in ("stage", "metric", "now", "reference", "p50", "p95", "n", ""):
        table.add_column(title, justify="right" if title in ("now", "reference", "p50", "p95", "n") else "left")
    for stage in data["stages"]:
        for row in stage["metrics"]:
            if not row["count"] or not (row["key"] or row["verdict"] not in ("ok", "no data", "not watched")):
                continue
            name = f"{row['help']} ({row['unit']})" if row["unit"] else row["help"]
            figures = [number(row[name]) for name in ("value", "reference", "p50", "p95")]
            table.add_row(stage["title"], name, *figures, str(row["count"]), shown(row["verdict"]))
    console.print(table)
    _print_arms(console, data)
    for line in [*_said_by_people(data), *_said_by_the_monitor(data)]:
        console.print(line, markup=False, highlight=False)


def _said_by_the_monitor(data: dict[str, Any]) -> list[str]:
    """Return a line for a failing store, and for references that are missing or wait for approval."""
    references = data["references"]
    failure = data["server"].get("store_failure")
    return [
        *([f"the store is failing: {failure}"] if failure else []),
        *progress_lines(references.get("progress", [])),
        *(
            f"{one['group_label']}: {len(one['metrics'])} metrics are expected {one['about']}"
            for one in references.get("seasons", [])
            if one["metrics"]
        ),
        *(f"reference {one['id']} waits for approval: speechpipe reference show" for one in references["proposed"]),
    ]
