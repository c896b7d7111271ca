"""`speechpipe metrics`: the catalogue of metrics, and how useful each one has been."""

import json
from typing import Annotated

import typer

from speechpipe.interfaces.cli import app
from speechpipe.interfaces.cli.flags import StoreOption

group = typer.Typer(help="The catalogue of metrics.", no_args_is_help=True)
app.add_typer(group, name="metrics")


@group.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False) -> None:
    """List all metrics with their meaning and the failure that each detects."""
    from speechpipe.interfaces.cli.tables import listing, show
    from speechpipe.serving.telemetry.cascade_metrics import CASCADE

    if as_json:
        names = ("name", "unit", "help", "catches", "limit", "key")
        rows = [
            {name: getattr(metric, name) for name in names} | dict.fromkeys(("severity", "tier"), metric.severity.value)
            for metric in CASCADE.metrics  # `tier`: its name until version 0.2
        ]
        typer.echo(json.dumps(rows))
        return
    table = listing("metric", "unit", "what", "catches", "severity", names=("metric",))
    for metric in CASCADE.metrics:
        table.add_row(metric.name, metric.unit, metric.help, metric.catches, metric.severity.value)
    show(table)


@group.command()
def value(
    store: StoreOption = "",
    last: Annotated[str, typer.Option(help="Length of the period: 24h, 30d.")] = "30d",
) -> None:
    """Print for each metric its alarms, how many of them were true, and how many verdicts depend on it.

    An alarm counts as true if an operator acknowledged it, or if blame named a stage. "decides" counts verdicts that
    would be different without the metric.
    """
    from rich.table import Table

    from speechpipe.interfaces.cli.tables import show
    from speechpipe.interfaces.cli.watching import duration_s, operations

    rows = operations(store).value(duration_s(last))
    table = Table(box=None)
    for title in ("metric", "values", "alarms", "acknowledged", "blamed", "decides", "hours firing"):
        table.add_column(title, justify="left" if title == "metric" else "right")
    for row in rows:
        counts = (row.values, row.alarms, row.acknowledged, row.blamed, row.decisive)
        table.add_row(row.metric, *(str(count) for count in counts), f"{row.firing_s / 3600:.1f}")
    show(table)
