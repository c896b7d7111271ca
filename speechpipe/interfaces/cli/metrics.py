"""`speechpipe metrics`: the catalogue, and which of its rows are worth their keep."""

import json
from typing import Annotated

import typer

from speechpipe.interfaces.cli import app

group = typer.Typer(help="The catalogue of metrics.", no_args_is_help=True)
app.add_typer(group, name="metrics")


@group.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="Print one list.")] = False) -> None:
    """List every metric: what it means and which failure it is there to catch."""
    from rich.console import Console
    from rich.table import Table

    from speechpipe.serving.telemetry.cascade import CASCADE

    if as_json:
        names = ("name", "unit", "help", "catches", "limit", "key")
        rows = [
            {name: getattr(metric, name) for name in names} | dict.fromkeys(("severity", "tier"), metric.severity.value)
            for metric in CASCADE.metrics  # `tier`: its name until version 0.2
        ]
        typer.echo(json.dumps(rows))
        return
    table = Table(box=None)
    for title in ("metric", "unit", "what", "catches", "severity"):
        table.add_column(title, overflow="fold")
    for metric in CASCADE.metrics:
        table.add_row(metric.name, metric.unit, metric.help, metric.catches, metric.severity.value)
    Console().print(table)


@group.command()
def value(
    store: Annotated[str, typer.Option(help="A store: a file, or a database URL. Without: that of the settings.")] = "",
    last: Annotated[str, typer.Option(help="The stretch of time: 24h, 30d.")] = "30d",
) -> None:
    """Say for each metric how often it raised an alarm, how many of those were true, and what hangs on it.

    An alarm is true to whoever acknowledged it, and to blame if it then named a stage. "decides" counts verdicts that
    would name another stage, or nobody, had the metric not been there.
    """
    from rich.console import Console
    from rich.table import Table

    from speechpipe.interfaces.cli.watching import duration_s, operations

    rows = operations(store).value(duration_s(last))
    table = Table(box=None)
    for title in ("metric", "values", "alarms", "acknowledged", "blamed", "decides", "hours firing"):
        table.add_column(title, justify="left" if title == "metric" else "right")
    for row in rows:
        counts = (row.values, row.alarms, row.acknowledged, row.blamed, row.decisive)
        table.add_row(row.metric, *(str(count) for count in counts), f"{row.firing_s / 3600:.1f}")
    Console().print(table)
