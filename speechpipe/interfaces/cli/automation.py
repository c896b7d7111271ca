"""`speechpipe automation`: show and set the degrees of automation."""

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
from speechpipe.interfaces.cli.flags import StoreOption

if TYPE_CHECKING:
    from speechpipe.control.review.changes import PolicyChange
    from speechpipe.control.review.policy_repository import Scoped

group = typer.Typer(help="Degrees of automation: who writes the text, by tenant.", no_args_is_help=True)
app.add_typer(group, name="automation")

ScopeArgument = Annotated[
    str,
    typer.Argument(
        help="A tenant, or `default` for all others. Never type a key here: see `speechpipe automation tenant`."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print a JSON object.")]


@group.command()
def show(
    store: StoreOption = "",
    history: Annotated[int, typer.Option(min=0, help="Number of changes to show.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Show the policies by tenant, and the latest changes."""
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
        typer.echo(f"no degree was set: {settings().default_degree} applies to all tenants")
    for row in scopes:
        demote = "alarms demote it" if row["demote"] else "alarms do not change it"
        typer.echo(
            f"{row['scope']}: {row['degree']}; error of unreviewed text at most {row['bound']:.1%};"
            f" {row['audit_share']:.1%} sampled at random; {demote}"
        )
    for line in lines:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(line["at"]))
        why = f" ({line['reason']})" if line["reason"] else ""
        typer.echo(f"  {when} {line['actor']}: {line['scope']} {line['was'] or 'nothing'} -> {line['degree']}{why}")


@group.command("set")
def set_(
    scope: ScopeArgument,
    degree: Annotated[str, typer.Argument(help="human_only, shadow, assist, partial or full; empty: unchanged.")] = "",
    bound: Annotated[float | None, typer.Option(help="Largest mean error of text that *partial* delivers.")] = None,
    delta: Annotated[float | None, typer.Option(help="Probability that the bound is exceeded.")] = None,
    audit_share: Annotated[float | None, typer.Option(help="Share of the sessions sampled for review.")] = None,
    doubt: Annotated[float | None, typer.Option(help="Confidence below which words are marked.")] = None,
    doubtful_share: Annotated[float | None, typer.Option(help="Share of the doubtful sessions to review.")] = None,
    disagreement_share: Annotated[
        float | None, typer.Option(help="Share of the sessions to review where shadow disagrees.")
    ] = None,
    demote: Annotated[bool | None, typer.Option(help="Lower the degree by one when an alarm fires.")] = None,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; required to lower the degree of `default`.")] = "",
    by: Annotated[str, typer.Option(help="Name of the operator. Default: the user of this machine.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Accept a tenant that is not known yet.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Lower that of `default` without confirmation.")] = False,
    store: StoreOption = "",
    as_json: JsonOption = False,
) -> None:
    """Set the automation policy of a tenant or of `default`. Running servers apply it within two seconds.

    Lowering the degree of `default` requires a --reason, and a confirmation of its effect (or --yes).
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
        raise InvalidParameter("name at least one field to change, such as the degree", param="degree")
    wanted = PolicyChange(changes, by or getpass.getuser(), reason.strip(), force=force, confirm=yes)
    meant, found = _changed(store, scope, wanted)
    document = review_documents.policy(meant, found)
    typer.echo(json.dumps(document) if as_json else f"{meant}: {document['degree']}")


def _changed(store: str, scope: str, wanted: "PolicyChange") -> "tuple[str, Scoped]":
    """Change a policy with the same checks as the server's; return the resolved scope and the policy."""
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
    """Whether standard input is a terminal, so that the user can be asked."""
    return sys.stdin is not None and sys.stdin.isatty()


def _confirmed(check: Callable[[bool], str], *, yes: bool) -> str:
    """Return what `check` returns, after asking the user at a terminal to confirm the effect if that is needed."""
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
    """Print the tenant of an API key. The key is asked for, or read from standard input; it is never an argument."""
    from speechpipe.errors import InvalidParameter
    from speechpipe.foundation.tenants import tenant_of

    typed = getpass.getpass("API key: ") if _terminal() else standard_input().readline(4096).decode(errors="replace")
    key = typed.strip()
    if not key:
        raise InvalidParameter("no key was given", param="key")
    typer.echo(tenant_of(key))
