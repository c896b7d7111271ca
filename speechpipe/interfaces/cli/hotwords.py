"""`speechpipe hotwords`: show and set the words that recognizers are drawn to, by tenant."""

import getpass
import json
from typing import TYPE_CHECKING, Annotated

import typer

from speechpipe.interfaces.cli import app
from speechpipe.interfaces.cli.automation import JsonOption, ScopeArgument
from speechpipe.interfaces.cli.flags import StoreOption

if TYPE_CHECKING:
    from speechpipe.control.review.hotwords import HotwordService

group = typer.Typer(help="Words that are likely to be spoken, by tenant.", no_args_is_help=True)
app.add_typer(group, name="hotwords")


@group.command()
def show(store: StoreOption = "", as_json: JsonOption = False) -> None:
    """Show the lists by tenant."""
    found = _lists(store).lists()
    if as_json:
        typer.echo(json.dumps({"scopes": [item.document(scope) for scope, item in sorted(found.items())]}))
        return
    if not found:
        typer.echo("no list was set")
    for scope, item in sorted(found.items()):
        typer.echo(f"{scope}: {', '.join(item.terms) or 'none'}")


@group.command("set")
def set_(
    scope: ScopeArgument,
    terms: Annotated[list[str] | None, typer.Argument(help="The whole list; without any term it is empty.")] = None,
    add: Annotated[bool, typer.Option("--add", help="Add the terms to the list instead.")] = False,
    by: Annotated[str, typer.Option(help="Name of the operator. Default: the user of this machine.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Accept a tenant that is not known yet.")] = False,
    store: StoreOption = "",
    as_json: JsonOption = False,
) -> None:
    """Set the list of a tenant or of `default`. Running servers apply it within two seconds.

    Example: speechpipe hotwords set default "Frau Sczepanski" Kubernetes
    """
    lists = _lists(store, create=True)
    wanted, revision = list(terms or ()), None
    if add:
        known = lists.known(scope, force=force)
        wanted, revision = [*known.terms, *wanted], known.revision
    meant, found = lists.set(scope, wanted, by or getpass.getuser(), revision=revision, force=force)
    document = found.document(meant)
    typer.echo(json.dumps(document) if as_json else f"{meant}: {', '.join(found.terms) or 'none'}")


def _lists(store: str, *, create: bool = False) -> "HotwordService":
    from speechpipe.control.review.hotwords import HotwordLists, HotwordService
    from speechpipe.control.review.scopes import Scopes
    from speechpipe.interfaces.cli.options import settings
    from speechpipe.interfaces.cli.watching import review_operations

    config = settings()
    engine = review_operations(store, create=create).automation.engine
    keys = {*config.api_keys, *config.operator_keys, *config.reviewer_keys}
    return HotwordService(HotwordLists(engine), Scopes(engine, keys, config.enterprise_tenants))
