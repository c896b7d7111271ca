"""`speechpipe alarms`: list what fires, and acknowledge it."""

import getpass
import json
from typing import Annotated

import typer

from speechpipe.interfaces.cli import app
from speechpipe.interfaces.cli.flags import StoreOption

group = typer.Typer(help="Alarms and incidents: list them, acknowledge them.", no_args_is_help=True)
app.add_typer(group, name="alarms")


@group.command("list")
def list_(
    last: Annotated[str, typer.Option(help="Resolved ones, too, of a period: 90m, 24h, 7d.")] = "",
    store: StoreOption = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """List the incidents and alarms that are open."""
    from speechpipe.interfaces.cli.report import incident_lines
    from speechpipe.interfaces.cli.watching import duration_s, operations
    from speechpipe.serving.health import documents as health_documents

    found = operations(store).report(duration_s(last) if last else 60.0)
    document = health_documents.document(found)
    shown = {
        "incidents": [one for one in document["incidents"] if last or one["state"] == "firing"],
        "alarms": [one for one in document["alarms"] if last or one["state"] != "resolved"],
    }
    if as_json:
        typer.echo(json.dumps(shown))
        return
    typer.echo("\n".join(incident_lines(shown)) or "no alarm is open")


@group.command("acknowledge")
def acknowledge(
    names: Annotated[list[str], typer.Argument(help="Ids of incidents or alarms.")],
    by: Annotated[str, typer.Option(help="Who looks at it. Default: your user name.")] = "",
    store: StoreOption = "",
) -> None:
    """Say that you are looking: of an incident, all its open alarms are acknowledged."""
    from speechpipe.interfaces.cli.watching import operations

    opened = operations(store)
    for name in names:
        for alarm in opened.acknowledge(name, by or getpass.getuser()):
            typer.echo(f"{alarm.id} acknowledged by {alarm.acknowledged_by}: {alarm.condition.reason}")
