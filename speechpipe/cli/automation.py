"""`speechpipe automation`: how much the machine may do alone."""

import getpass
import json
import sys
import time
from typing import Annotated

import typer

from speechpipe.cli import app

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
    from speechpipe import review_document
    from speechpipe.cli.options import settings
    from speechpipe.cli.watching import review_desk
    from speechpipe.monitor.database import reachable

    automation = review_desk(store).automation
    with reachable():
        scopes = [review_document.policy(scope, item) for scope, item in sorted(automation.policies().items())]
        lines = [review_document.entry(item) for item in automation.history(history)]
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
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why.")] = "",
    by: Annotated[str, typer.Option(help="Who does it; without: the user of this machine.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Also for a tenant of which nothing is known yet.")] = False,
    store: StoreOption = "",
    as_json: JsonOption = False,
) -> None:
    """Say how much the machine may do alone. Running servers follow within two seconds."""
    from speechpipe import review_document
    from speechpipe.cli.options import settings
    from speechpipe.cli.watching import review_desk
    from speechpipe.errors import InvalidParameter
    from speechpipe.monitor.database import reachable
    from speechpipe.review import Degree
    from speechpipe.review.degrees import Policy
    from speechpipe.review.scopes import Scopes

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
    config = settings()
    desk = review_desk(store, create=True)
    desk.automation.base = Policy(Degree(config.default_degree))
    keys = {*config.api_keys, *config.operator_keys, *config.reviewer_keys}
    scopes = Scopes(desk.automation.engine, keys, config.enterprise_tenants)
    with reachable():
        scopes.check(reason)
        meant = scopes.resolve(scope.strip(), force=force)
        found = desk.automation.set(meant, changes, by or getpass.getuser(), reason)
    document = review_document.policy(meant, found)
    typer.echo(json.dumps(document) if as_json else f"{meant}: {document['degree']}")


@group.command()
def tenant() -> None:
    """Print the tenant of an API key. The key is asked for, or read from standard input: it is never an argument."""
    from speechpipe.errors import InvalidParameter
    from speechpipe.tenants import tenant_of

    typed = getpass.getpass("API key: ") if sys.stdin.isatty() else sys.stdin.readline()
    key = typed.strip()
    if not key:
        raise InvalidParameter("no key was given", param="key")
    typer.echo(tenant_of(key))
