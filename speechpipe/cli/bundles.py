"""`speechpipe bundles`: what can be run here."""

import json
from typing import Annotated

import typer

from speechpipe.cli import app

group = typer.Typer(help="Bundles: VAD + recognizer + every parameter, under one version.", no_args_is_help=True)
app.add_typer(group, name="bundles")


@group.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="Print one object.")] = False) -> None:
    """List the bundles and their parts."""
    from rich.console import Console
    from rich.table import Table

    from speechpipe import documents
    from speechpipe.cli.options import settings
    from speechpipe.service import Service

    service = Service(settings())
    bundles = [service.catalogue.bundle(name) for name in service.catalogue.names]
    if as_json:
        typer.echo(json.dumps([documents.bundle(bundle) for bundle in bundles]))
        return
    table = Table(box=None)
    for title in ("bundle", "version", "VAD", "recognizer", "languages", "what"):
        table.add_column(title, overflow="fold")
    for bundle in bundles:
        name = bundle.name + (" *" if bundle.name == service.champion.name else "")
        vad, asr = f"{bundle.vad.name} {bundle.vad.version}", f"{bundle.asr.name} {bundle.asr.version}"
        table.add_row(name, bundle.version, vad, asr, " ".join(bundle.languages), bundle.description)
    Console().print(table)
    typer.echo("* the champion: what `default` and `whisper-1` mean on the wire")


@group.command("show")
def show(name: Annotated[str, typer.Argument(help="A bundle.")]) -> None:
    """Show a bundle with every parameter and check the hashes of its files; exit code 1 if one is wrong."""
    from speechpipe import documents
    from speechpipe.cli.options import settings
    from speechpipe.service import Service

    catalogue = Service(settings()).catalogue
    bundle = catalogue.bundle(name)
    problems = catalogue.problems(bundle)
    document = {
        **documents.bundle(bundle),
        "description": bundle.description,
        "languages": list(bundle.languages),
        "cards": [
            str(catalogue.cards[kind, of].path)
            for kind, of in (("bundle", bundle.name), ("vad", bundle.vad.name), ("asr", bundle.asr.name))
        ],
        "files": problems or "verified",
    }
    typer.echo(json.dumps(document, indent=2))
    raise typer.Exit(1 if problems else 0)
