"""`speechpipe models`: list VADs and recognizers, and download their weights."""

from typing import Annotated

import typer

from speechpipe.interfaces.cli import app

group = typer.Typer(help="Models: the VADs and recognizers of bundles.", no_args_is_help=True)
app.add_typer(group, name="models")


@group.command("list")
def list_() -> None:
    """List models and the state of their files."""
    from rich.console import Console
    from rich.table import Table

    from speechpipe.cascade.catalog.factories import catalogue as catalogue_of
    from speechpipe.interfaces.cli.options import settings

    catalogue = catalogue_of(settings())
    table = Table(box=None)
    for title in ("kind", "model", "version", "licence", "files", "what"):
        table.add_column(title, overflow="fold")
    for kind in ("vad", "asr"):
        for card in catalogue.versions(kind):
            absent = any(file.url and file.locate() is None for file in card.files)
            problems = [] if absent else [problem for file in card.files if (problem := file.problem())]
            verified = f"{len(card.files)} verified" if card.files else "none"
            state = "not fetched" if absent else problems[0] if problems else verified
            table.add_row(kind, card.name, card.version, card.licence, state, card.description)
    Console().print(table)


@group.command()
def pull(
    name: Annotated[str, typer.Argument(help="A VAD or recognizer. Default: those of the served bundles.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All with missing files: gigabytes.")] = False,
) -> None:
    """Download weights into your models folder (SPEECHPIPE_MODELS_DIR, or below the state directory).

    Resumes interrupted downloads; refuses files with a wrong hash. Example: speechpipe models pull wav2vec2-base-960h
    """
    import sys

    from speechpipe.cascade.catalog.download import fetch
    from speechpipe.cascade.catalog.factories import catalogue as catalogue_of
    from speechpipe.errors import UnknownName
    from speechpipe.interfaces.cli.options import settings

    found = settings()
    catalogue = catalogue_of(found)
    bundles = [catalogue.bundle(bundle) for bundle in found.preloaded_bundles]
    served = {catalogue.part(kind, bundle).id for kind in ("vad", "asr") for bundle in bundles}
    known = [card for kind in ("vad", "asr") for card in catalogue.versions(kind)]
    cards = [card for card in known if everything or (card.name == name if name else card.id in served)]
    if not cards:
        raise UnknownName(f"there is no model {name!r}; `speechpipe models list` shows them", cause="not_found")

    def show(done: int, total: int | None) -> None:
        if sys.stderr.isatty():
            of = f" of {total / 2**20:.1f}" if total else ""
            sys.stderr.write(f"\r{done / 2**20:.1f}{of} MiB")

    fetched = 0
    for card in cards:
        for file in card.files:
            if file.url and fetch(file, show):
                fetched += 1
                typer.echo(f"{card.name} {card.version}: {file.path}")
    typer.echo(f"{fetched} files fetched" if fetched else "nothing to fetch: all files are present and verified")
