"""`speechpipe automation`: how much the machine may do alone."""

import getpass
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from speechpipe.foundation.text_files import standard_input
from speechpipe.interfaces.cli import app

if TYPE_CHECKING:
    from speechpipe.control.review.changes import PolicyChange
    from speechpipe.control.review.policy_repository import Scoped

group = typer.Typer(help="Degrees of automation: who writes the text, for whom.", no_args_is_help=True)
app.add_typer(group, name="automation")

StoreOption = Annotated[str, typer.Option(help="A store: a file, or a database URL. Without: that of the settings.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one object.")]


@group.command()
def show(
    store: StoreOption = "",
    history: Annotated[int, typer.Option(min=0, help="So many lines of the history.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Show what holds for whom, and what was changed."""
    from speechpipe.control.review import documents as review_documents
    from speechpipe.foundation.storage.database import translating_store_errors
    from speechpipe.interfaces.cli.options import settings
    from speechpipe.interfaces.cli.watching import review_operations

    automation = review_operations(store).automation
    with translating_store_errors():
        scopes = [review_documents.policy(scope, item) for scope, item in sorted(automation.policies().items())]
        lines = [review_documents.entry(item) for item in automation.history(history)]
    if as_json:
        typer.echo(json.dumps({"scopes": scopes, "history": lines}))
        return
    if not scopes:
        typer.echo(f"nobody has set a degree: {settings().default_degree} holds for everybody")
    for row in scopes:
        demote = "an alarm demotes" if row["demote"] else "alarms change nothing"
        typer.echo(
            f"{row['scope']}: {row['degree']}; error of what is delivered unseen {row['bound']:.1%} at most;"
            f" {row['audit_share']:.1%} drawn at random; {demote}"
        )
    for line in lines:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(line["at"]))
        why = f" ({line['reason']})" if line["reason"] else ""
        typer.echo(f"  {when} {line['actor']}: {line['scope']} {line['was'] or 'nothing'} -> {line['degree']}{why}")


@group.command("set")
def set_(
    scope: Annotated[
        str,
        typer.Argument(
            help="A tenant, or `default` for everybody else. Never type a key here: `speechpipe automation tenant`."
        ),
    ],
    degree: Annotated[str, typer.Argument(help="human_only, shadow, assist, partial or full; empty: as it is.")] = "",
    bound: Annotated[float | None, typer.Option(help="Of the mean error of what *partial* delivers unseen.")] = None,
    delta: Annotated[float | None, typer.Option(help="Chance that the bound is broken.")] = None,
    audit_share: Annotated[float | None, typer.Option(help="Of the sessions, drawn at random for review.")] = None,
    doubt: Annotated[float | None, typer.Option(help="Confidence below which words are marked.")] = None,
    doubtful_share: Annotated[float | None, typer.Option(help="Of the doubtful sessions, for review.")] = None,
    disagreement_share: Annotated[
        float | None, typer.Option(help="Of the sessions that shadow hears otherwise, for review.")
    ] = None,
    demote: Annotated[bool | None, typer.Option(help="By one degree when an alarm fires.")] = None,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; needed to lower the degree of `default`.")] = "",
    by: Annotated[str, typer.Option(help="Who does it; without: the user of this machine.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Also for a tenant of which nothing is known yet.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Lower that of `default` without being asked.")] = False,
    store: StoreOption = "",
    as_json: JsonOption = False,
) -> None:
    """Say how much the machine may do alone. Running servers follow within two seconds.

    To lower the degree of `default` takes a --reason, and a confirmation: its effect is stated and asked for, or --yes.
    """
    from speechpipe.control.review import documents as review_documents
    from speechpipe.control.review.changes import PolicyChange
    from speechpipe.errors import InvalidParameter

    named = {
        "degree": degree or None,
        "bound": bound,
        "delta": delta,
        "audit_share": audit_share,
        "doubt": doubt,
        "doubtful_share": doubtful_share,
        "disagreement_share": disagreement_share,
        "demote": demote,
    }
    changes = {name: value for name, value in named.items() if value is not None}
    if not changes:
        raise InvalidParameter("say what is to change, such as the degree", param="degree")
    wanted = PolicyChange(changes, by or getpass.getuser(), reason.strip(), force=force, confirm=yes)
    meant, found = _changed(store, scope, wanted)
    document = review_documents.policy(meant, found)
    typer.echo(json.dumps(document) if as_json else f"{meant}: {document['degree']}")


def _changed(store: str, scope: str, wanted: "PolicyChange") -> "tuple[str, Scoped]":
    """Make a change after the checks that the server makes, too; return the scope that was meant, and it."""
    from speechpipe.control.review.changes import ChangeChecks
    from speechpipe.control.review.scopes import Scopes
    from speechpipe.foundation.storage.database import translating_store_errors
    from speechpipe.interfaces.cli.options import settings
    from speechpipe.interfaces.cli.watching import review_operations

    config = settings()
    automation = review_operations(store, create=True).automation
    keys = {*config.api_keys, *config.operator_keys, *config.reviewer_keys}
    checks = ChangeChecks(automation, Scopes(automation.engine, keys, config.enterprise_tenants), time.time)
    with translating_store_errors():
        meant = _confirmed(
            lambda confirmed: checks.scope(scope, replace(wanted, confirm=confirmed)), yes=wanted.confirm
        )
        return meant, automation.set(meant, wanted.changes, wanted.actor, wanted.reason)


def _terminal() -> bool:
    """Whether a person can be asked."""
    return sys.stdin is not None and sys.stdin.isatty()


def _confirmed(check: Callable[[bool], str], *, yes: bool) -> str:
    """Return what `check` returns; what it wants confirmed is asked of the person at the terminal, if there is one."""
    from speechpipe.errors import InvalidParameter

    try:
        return check(yes)
    except InvalidParameter as error:
        if error.cause == "missing_reason":
            raise InvalidParameter(f"{error.message} (--reason)", param="reason", cause=error.cause) from error
        if error.cause != "unconfirmed":
            raise
        if not _terminal():
            raise InvalidParameter(f"{error.message} (--yes)", param="yes", cause=error.cause) from error
        typer.confirm(error.message, err=True, abort=True)
    return check(True)


@group.command()
def tenant() -> None:
    """Print the tenant of an API key. The key is asked for, or read from standard input: it is never an argument."""
    from speechpipe.errors import InvalidParameter
    from speechpipe.foundation.tenants import tenant_of

    typed = getpass.getpass("API key: ") if _terminal() else standard_input().readline(4096).decode(errors="replace")
    key = typed.strip()
    if not key:
        raise InvalidParameter("no key was given", param="key")
    typer.echo(tenant_of(key))
