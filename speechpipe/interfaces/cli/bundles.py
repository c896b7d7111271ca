"""`speechpipe bundles`: list, show, verify, compare and add bundles."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechpipe.interfaces.cli import app

if TYPE_CHECKING:
    from speechpipe.cascade.catalog.figures import Figures

group = typer.Typer(help="Bundles: a VAD, a recognizer and all parameters, under one version.", no_args_is_help=True)
app.add_typer(group, name="bundles")


@group.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False) -> None:
    """List the bundles, their parts, and what `speechpipe bench recognizer` measured of them.

    That is words wrong, CPU seconds for a second of audio, the end of a live segment to its text (p95), a worker's
    memory; `bundles show` says on which recordings and which machine.
    """
    from speechpipe.app import compose
    from speechpipe.interfaces.cli.options import settings
    from speechpipe.interfaces.cli.tables import listing, show
    from speechpipe.serving.transcription import documents

    service = compose(settings())
    catalogue = service.engine.catalogue
    found = [(bundle, catalogue.figures(bundle)) for bundle in map(catalogue.bundle, catalogue.names)]
    if as_json:
        typer.echo(json.dumps([documents.bundle(one) | {"figures": documents.figures(its)} for one, its in found]))
        return
    columns = ("bundle", "version", "VAD", "recognizer", "languages", "measured", "what")
    table = listing(*columns, names=("bundle", "version"))
    for bundle, measured in found:
        name = bundle.name + (" *" if bundle.name == service.engine.champion.name else "")
        vad, asr = f"{bundle.vad.name} {bundle.vad.version}", f"{bundle.asr.name} {bundle.asr.version}"
        languages = " ".join(bundle.languages)
        table.add_row(name, bundle.version, vad, asr, languages, _measured(measured), bundle.description)
    show(table)
    typer.echo("* the champion: what `default` and `whisper-1` mean in requests")


def _measured(figures: "Figures | None") -> str:
    if figures is None:
        return "-"
    latency = f", {figures.final_p95_ms:.0f} ms" if figures.finals else ""
    return f"{figures.wer:.1%} wrong, CPU {figures.cpu:.3f}{latency}, {figures.worker_rss_mb:.0f} MB"


@group.command("show")
def show(name: Annotated[str, typer.Argument(help="A bundle.")]) -> None:
    """Show a bundle with all parameters and figures, and verify its files; exit code 1 if one is wrong."""
    from speechpipe.cascade.catalog.factories import catalogue as catalogue_of
    from speechpipe.interfaces.cli.options import settings
    from speechpipe.serving.transcription import documents

    catalogue = catalogue_of(settings())
    bundle = catalogue.bundle(name)
    problems = catalogue.problems(bundle)
    figures = catalogue.figures(bundle)
    document = {
        **documents.bundle(bundle),
        "description": bundle.description,
        "languages": list(bundle.languages),
        "cards": [
            str(card.path)
            for card in (catalogue.card_of(bundle), catalogue.part("vad", bundle), catalogue.part("asr", bundle))
        ],
        "figures": figures.document() if figures is not None else None,
        "files": problems or "verified",
    }
    typer.echo(json.dumps(document, indent=2))
    raise typer.Exit(1 if problems else 0)


@group.command()
def verify(name: Annotated[str, typer.Argument(help="A bundle. Default: all.")] = "") -> None:
    """Verify the hashes of a bundle's files, and print the bundle's hash; exit code 1 if one is wrong."""
    from speechpipe.cascade.catalog.factories import catalogue as catalogue_of
    from speechpipe.interfaces.cli.options import settings

    catalogue = catalogue_of(settings())
    wrong = 0
    for one in [name] if name else catalogue.names:
        bundle = catalogue.bundle(one)
        if not name and catalogue.absent(bundle):
            typer.echo(f"{bundle.id}  not fetched: speechpipe models pull {bundle.asr.name}")
            continue
        problems = catalogue.problems(bundle)
        wrong += bool(problems)
        typer.echo(f"{bundle.id}  {catalogue.digest(bundle)}  {'; '.join(problems) or 'verified'}")
    raise typer.Exit(1 if wrong else 0)


@group.command()
def diff(
    first: Annotated[str, typer.Argument(help="A bundle: name, or name@version.")],
    second: Annotated[str, typer.Argument(help="Another bundle.")],
) -> None:
    """Print the differences of two bundles, one line for each parameter; exit code 1 if there are any."""
    from speechpipe.cascade.catalog.factories import catalogue as catalogue_of
    from speechpipe.interfaces.cli.options import settings

    catalogue = catalogue_of(settings())
    lines = catalogue.differences(catalogue.bundle(first), catalogue.bundle(second))
    for line in lines:
        typer.echo(f"{line[0]}: {line[1]} -> {line[2]}")
    raise typer.Exit(1 if lines else 0)


@group.command()
def add(
    card: Annotated[Path | None, typer.Argument(help="The card of a bundle, VAD or recognizer, as TOML.")] = None,
    derive: Annotated[str, typer.Option("--from", help="Instead of a card: derive a variant of this bundle.")] = "",
    name: Annotated[str, typer.Option(help="Name of the variant.")] = "",
    version: Annotated[str, typer.Option(help="Version of the variant.")] = "1.0.0",
    set_: Annotated[list[str] | None, typer.Option("--set", help="vad.NAME=value or asr.NAME=value.")] = None,
) -> None:
    """Add a card to your models folder; existing versions never change. Running servers find it on first use.

    Example: speechpipe bundles add --from default --name tuned --version 1.1.0 --set vad.threshold=0.6
    """
    from speechpipe.cascade.catalog.factories import catalogue as catalogue_of
    from speechpipe.cascade.catalog.local import derived, install
    from speechpipe.errors import BadInput
    from speechpipe.foundation.text_files import naming, read_text
    from speechpipe.interfaces.cli.options import parse_set, settings

    found = settings()
    catalogue = catalogue_of(found)
    if (card is None) == (not derive):
        raise BadInput("give either a card, or --from BUNDLE with --name and --set")
    if card is not None:
        with naming(card):
            path = install(read_text(card), found.own_models_dir, catalogue)
    else:
        if not name:
            raise BadInput("the variant needs a --name")
        text = derived(catalogue, catalogue.bundle(derive), name, version, parse_set(set_))
        path = install(text, found.own_models_dir, catalogue)
    typer.echo(f"added {path}")
