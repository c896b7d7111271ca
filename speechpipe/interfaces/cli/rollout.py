"""`speechpipe rollout`: start, follow, approve and roll back rollouts."""

import getpass
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechpipe.interfaces.cli import app
from speechpipe.interfaces.cli.flags import StoreOption

if TYPE_CHECKING:
    from speechpipe.control.rollout.operations import RolloutOperations
    from speechpipe.control.rollout.routes import RouteState

group = typer.Typer(help="Rollouts by shadow, canary and blue/green steps, based on evidence.", no_args_is_help=True)
app.add_typer(group, name="rollout")

ByOption = Annotated[str, typer.Option(help="Name of the operator. Default: the user of this machine.")]
ReasonOption = Annotated[str, typer.Option("--reason", "-r", help="Why.")]


def rollout_operations(store: str, *, create: bool = False) -> "RolloutOperations":
    """Return the rollout operations of a store (default: that of the settings)."""
    from speechpipe.app import compose
    from speechpipe.control.rollout.operations import RolloutOperations
    from speechpipe.control.rollout.service import verified
    from speechpipe.control.rollout.speech_guards import GUARDS
    from speechpipe.foundation.storage.store import Store
    from speechpipe.interfaces.cli.options import settings
    from speechpipe.interfaces.cli.watching import store_settings

    found = store_settings(store, create=create)
    service = compose(settings())
    return RolloutOperations(Store(found.record_store_url), GUARDS, lambda name: verified(service, name))


@group.command()
def plan(
    candidate: Annotated[str, typer.Argument(help="The bundle to roll out.")],
    case: Annotated[str, typer.Option(help="new, assist or replace.")] = "replace",
    blue_green: Annotated[
        bool, typer.Option("--blue-green", help="Switch all sessions at once, if both cannot run side by side.")
    ] = False,
) -> None:
    """Print a plan for a deployment case, as TOML to edit."""
    from speechpipe.cascade.catalog.factories import catalogue as catalogue_of
    from speechpipe.control.rollout.plan import template
    from speechpipe.control.rollout.speech_guards import GUARDS
    from speechpipe.interfaces.cli.options import settings

    catalogue_of(settings()).bundle(candidate)  # UnknownName if there is none
    sys.stdout.write(template(case, candidate, GUARDS.rates, side_by_side=not blue_green))


@group.command()
def start(
    file: Annotated[Path, typer.Argument(help="A plan; - for standard input.", allow_dash=True)],
    store: StoreOption = "",
    by: ByOption = "",
) -> None:
    """Start a rollout. Running servers follow it within a second."""
    from speechpipe.control.rollout.plan import parse
    from speechpipe.control.rollout.speech_guards import GUARDS
    from speechpipe.foundation.text_files import decoded, naming, read_text, standard_input

    name = "standard input" if str(file) == "-" else str(file)
    with naming(name):
        found = parse(decoded(standard_input(), name) if str(file) == "-" else read_text(file), GUARDS.rates)
    operations = rollout_operations(store, create=True)
    _say(operations, operations.start(found, by or getpass.getuser()))


@group.command()
def status(
    store: StoreOption = "", as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False
) -> None:
    """Show the arms, the evidence, and how many sessions are still needed."""
    operations = rollout_operations(store)
    _say(operations, operations.state(), as_json=as_json)


@group.command()
def approve(store: StoreOption = "", by: ByOption = "", reason: ReasonOption = "") -> None:
    """Approve the step forward that the evidence supports."""
    operations = rollout_operations(store)
    _say(operations, operations.approve(by or getpass.getuser(), reason))


@group.command()
def pause(store: StoreOption = "", by: ByOption = "", reason: ReasonOption = "") -> None:
    """Take no further step; guards still roll back."""
    operations = rollout_operations(store)
    _say(operations, operations.pause(by or getpass.getuser(), reason))


@group.command()
def resume(store: StoreOption = "", by: ByOption = "", reason: ReasonOption = "") -> None:
    """Continue a paused rollout."""
    operations = rollout_operations(store)
    _say(operations, operations.resume(by or getpass.getuser(), reason))


@group.command()
def promote(store: StoreOption = "", by: ByOption = "", reason: ReasonOption = "") -> None:
    """Make the candidate the champion; refused without evidence."""
    operations = rollout_operations(store)
    _say(operations, operations.promote(by or getpass.getuser(), reason))


@group.command()
def rollback(
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why.", prompt="Why")],
    store: StoreOption = "",
    by: ByOption = "",
    to: Annotated[str, typer.Option(help="NAME@VERSION of `previous`, to confirm a second rollback.")] = "",
) -> None:
    """Send all new sessions to the champion; without a rollout, to the previous champion.

    A second rollback is refused if no rollout was started in between, unless --to confirms it.
    """
    operations = rollout_operations(store)
    _say(operations, operations.roll_back(by or getpass.getuser(), reason, to))


@group.command()
def history(
    store: StoreOption = "", as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False
) -> None:
    """List changes of the route, newest first."""
    from speechpipe.control.rollout import documents
    from speechpipe.interfaces.cli.tables import listing, show

    found = rollout_operations(store).history()
    if as_json:
        typer.echo(json.dumps([documents.entry(entry) for entry in found]))
        return
    table = listing("when", "who", "what", "rollout", "bundle", "why", names=("bundle",))
    for entry in found:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(entry.at))
        table.add_row(when, entry.actor, entry.action, str(entry.rollout), entry.bundle, entry.reason)
    show(table)


def _say(operations: "RolloutOperations", state: "RouteState", *, as_json: bool = False) -> None:
    from speechpipe.control.rollout import documents

    document = documents.status(state, operations.shown(state))
    if as_json:
        typer.echo(json.dumps(document))
        return
    _print(document)


def _print(document: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    aliases = ", ".join(f"{alias} {bundle}" for alias, bundle in document["aliases"].items())
    none_yet = "no server has served on this store yet"
    console.print(f"route default: {aliases or none_yet}", highlight=False)
    if document["came_from"]:
        console.print(f"rolled back: from {document['came_from']} to the champion", highlight=False, markup=False)
    rollout = document["rollout"]
    if rollout is None:
        console.print("there was no rollout yet", highlight=False)
        return
    steps = " -> ".join(
        f"[{step['label']}]" if index == rollout["step"] else step["label"]
        for index, step in enumerate(rollout["steps"])
    )
    title = f"rollout {rollout['id']} of {rollout['candidate']}: {rollout['status']}; {steps}"
    console.print(title, highlight=False, markup=False)
    if rollout["reason"]:
        console.print(f"because: {rollout['reason']}", highlight=False, markup=False)
    if rollout["next"]:
        console.print(f"next: {rollout['next']}", highlight=False, markup=False)
    for arm in rollout["arms"]:
        console.print(f"  {arm['arm']}: {arm['weight']:.1%} of new sessions, {arm['sessions']} so far", highlight=False)
    table = Table(box=None)
    for title in ("guard", "champion", "candidate", "harm", "fine", "more sessions"):
        table.add_column(title, justify="left" if title == "guard" else "right")
    for row in rollout["evidence"]["guards"]:
        cells = [f"{row[arm]['events']}/{row[arm]['sessions']}" for arm in ("champion", "candidate")]
        more = "unknown" if row["more_sessions"] is None else str(row["more_sessions"])
        table.add_row(row["guard"], *cells, f"{row['harm']:.2f}", f"{row['fine']:.2f}", more)
    console.print(table)
    console.print(
        "a harm of 1 rolls back; fine of 1 for every guard goes on; below 0 the evidence points the other way",
        highlight=False,
    )
    for row in rollout["shadow"]:
        shown = f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        console.print(f"  {row['meaning']}: {shown}", highlight=False, markup=False)
    for row in rollout["means"]:
        shown = f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        console.print(f"  {row['meaning']}, {row['arm']}: {shown}", highlight=False, markup=False)
    evidence = rollout["evidence"]
    if evidence["half"]:
        console.print(f"the change comes from: {evidence['half']}", highlight=False)
    console.print(f"verdict: {evidence['judgement']} - {evidence['reason']}", highlight=False, markup=False)
    if evidence["more_sessions"]:
        hours = rollout["hours_needed"]
        at = f", about {hours:g} h at the traffic so far" if hours is not None else ""
        console.print(f"about {evidence['more_sessions']} more sessions{at}", highlight=False)
