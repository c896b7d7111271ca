"""`speechpipe reference`: propose, list and approve references, and announce changes."""

import getpass
import json
from typing import TYPE_CHECKING, Annotated

import typer

from speechpipe.interfaces.cli import app
from speechpipe.interfaces.cli.flags import StoreOption

if TYPE_CHECKING:
    from speechpipe.monitor.reference import Reference

group = typer.Typer(help="References: approved periods of healthy traffic.", no_args_is_help=True)
app.add_typer(group, name="reference")


@group.command("set")
def set_(
    last: Annotated[str, typer.Option(help="Length of the period: 90m, 24h, 7d.")] = "24h",
    until: Annotated[str, typer.Option(help="Its end: 2026-11-23T10:00 (UTC), or an age. Default: now.")] = "",
    tenant_class: Annotated[str, typer.Option(help="Only this class: consumer or enterprise.")] = "",
    channel: Annotated[str, typer.Option(help="Only this channel: upload, listen or realtime.")] = "",
    bundle: Annotated[str, typer.Option(help="Only this bundle.")] = "",
    store: StoreOption = "",
) -> None:
    """Propose references from a period, one for each group of traffic. They have no effect until approved."""
    from speechpipe.errors import BadInput
    from speechpipe.interfaces.cli.watching import duration_s, moment, operations
    from speechpipe.monitor.report import Filters

    end = moment(until)
    filters = Filters(tenant_class or None, channel or None, bundle or None)
    found = operations(store).propose(end - duration_s(last), end, filters)
    if not found:
        raise BadInput("there was no traffic in that time")
    _print(found)


@group.command("show")
def show(
    store: StoreOption = "", as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False
) -> None:
    """List all references."""
    from speechpipe.interfaces.cli.report import progress_lines
    from speechpipe.interfaces.cli.watching import operations
    from speechpipe.serving.health import documents as health_documents

    opened = operations(store)
    found = opened.references()
    if as_json:
        typer.echo(json.dumps([health_documents.reference(item) for item in found]))
        return
    _print(found)
    for line in progress_lines([health_documents.progress(item) for item in opened.progress()]):
        typer.echo(line)


@group.command("approve")
def approve(
    numbers: Annotated[list[int], typer.Argument(help="Numbers of proposals.")], store: StoreOption = ""
) -> None:
    """Approve (pin) proposals: traffic is compared with them from now on."""
    from speechpipe.interfaces.cli.watching import operations
    from speechpipe.monitor.blame.normal import LEAST_CASES

    found = operations(store)
    approved = [found.approve(number, getpass.getuser()) for number in numbers]
    _print(approved)
    for one in approved:
        if any(one.group) and not found.is_enough_for_blame(one):
            typer.echo(
                f"reference {one.id} has fewer than {LEAST_CASES} sessions: changes ring, but no stage is blamed;"
                " `speechpipe reference set --last 1h` proposes a longer one",
                err=True,
            )


@group.command("move")
def move(
    number: Annotated[int, typer.Argument(help="The number of a reference.")],
    bundle: Annotated[str, typer.Argument(help="The next bundle, as NAME@VERSION.")],
    store: StoreOption = "",
) -> None:
    """Pin a reference for another bundle too, which is meant to behave as the one before."""
    from speechpipe.interfaces.cli.watching import operations

    _print([operations(store).move(number, bundle, getpass.getuser())])


@group.command("announce")
def announce(
    tenant: Annotated[str, typer.Argument(help="The tenant whose data will change; `all` for all tenants.")],
    until: Annotated[str, typer.Option(help="When the change ends: 2026-11-23T10:00 (UTC).")],
    since: Annotated[str, typer.Option(help="When it begins. Default: now.")] = "",
    note: Annotated[str, typer.Option(help="What changes.")] = "",
    store: StoreOption = "",
) -> None:
    """Announce a change of data: it suppresses the tenant's drift alarms meanwhile."""
    from speechpipe.errors import InvalidParameter
    from speechpipe.interfaces.cli.watching import moment, operations

    begin, end = moment(since), moment(until)
    if end <= begin:
        raise InvalidParameter("the change must end after it begins", param="until")
    number = operations(store).announce("" if tenant == "all" else tenant, begin, end, note)
    typer.echo(f"announced change {number}")


def _print(found: "list[Reference]") -> None:
    from speechpipe.foundation.times import clock
    from speechpipe.interfaces.cli.tables import listing, show

    table = listing("id", "status", "group", "from (UTC)", "to", "utterances", "approved by", names=("id",))
    for item in found:
        times = clock(item.since, days=True), clock(item.until, days=True)
        table.add_row(str(item.id), item.status, item.group.label, *times, str(item.units), item.approved_by or "")
    show(table)
