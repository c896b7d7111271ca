"""`speechpipe models`: list VADs and recognizers, and fetch their weights."""

from typing import TYPE_CHECKING, Annotated

import typer

from speechpipe.interfaces.cli import app

if TYPE_CHECKING:
    from speechpipe.cascade.catalog.bundles import Catalogue
    from speechpipe.cascade.catalog.cards import Card

group = typer.Typer(help="Models: the VADs and recognizers of bundles.", no_args_is_help=True)
app.add_typer(group, name="models")


@group.command("list")
def list_() -> None:
    """List models: the size and state of their files, and where they come from."""
    from speechpipe.cascade.catalog.download import megabytes
    from speechpipe.cascade.catalog.factories import catalogue as catalogue_of
    from speechpipe.interfaces.cli.options import settings
    from speechpipe.interfaces.cli.tables import listing, show

    catalogue = catalogue_of(settings())
    columns = ("kind", "model", "version", "licence", "size", "files", "from", "what")
    table = listing(*columns, names=("kind", "model", "version"))
    for kind in ("vad", "asr"):
        for card in catalogue.versions(kind):
            problems = [] if card.absent else [problem for file in card.files if (problem := file.problem())]
            verified = f"{len(card.files)} verified" if card.files else "none"
            state = "not fetched" if card.absent else problems[0] if problems else verified
            size = megabytes(_size(card))
            table.add_row(
                kind, card.name, card.version, card.licence, size, state, ", ".join(_from(card)), card.description
            )
    show(table)


def _size(card: "Card") -> int:
    """Return the bytes of a card's files: those on this machine, or what the card says; 0 if a size is not known."""
    found = [path.stat().st_size if (path := file.locate()) is not None else file.size for file in card.files]
    return sum(found) if all(found) else 0


def _from(card: "Card") -> list[str]:
    """Return where a card's files come from, in order."""
    found = []
    for file in card.files:
        found += [f"package {file.package}"] if file.package else [source.kind for source in file.remote] or ["card"]
    return list(dict.fromkeys(found))


@group.command()
def pull(
    names: Annotated[
        list[str] | None, typer.Argument(help="Bundles, VADs or recognizers. Default: the served bundles.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All with missing files: gigabytes.")] = False,
    beside: Annotated[
        bool,
        typer.Option("--beside-cards", help="Into the installed package instead, which every state folder then uses."),
    ] = False,
    steps: Annotated[
        bool, typer.Option("--steps/--no-steps", help="If it fails: say what to do without a network.")
    ] = True,
) -> None:
    """Fetch weights into WEIGHTS_DIR, or into your models folder (MODELS_DIR, by default below the state folder).

    Each file comes from the first of its card's sources that has it, after MODELS_MIRROR if that is set, and must have
    the card's hash. Interrupted downloads are resumed. Example: speechpipe models pull multilingual
    """
    from speechpipe.cascade.catalog import factories
    from speechpipe.cascade.catalog.cards import shipped_models
    from speechpipe.cascade.catalog.download import Fetcher
    from speechpipe.errors import SpeechpipeError
    from speechpipe.interfaces.cli.options import settings
    from speechpipe.interfaces.cli.weights import shown

    config = settings(models_dir=shipped_models(), weights_dir=None) if beside else settings()
    catalogue = factories.catalogue(config)
    wanted = names or ([] if everything else list(config.preloaded_bundles))
    cards = [card for name in wanted for card in _named(catalogue, name)]
    if everything:
        cards = [card for kind in ("vad", "asr") for card in catalogue.versions(kind)]
    fetched = 0
    with shown() as listener:
        fetcher = Fetcher(factories.network(config), listener)
        for card in {card.id: card for card in cards}.values():
            try:
                fetched += fetcher.fetch(card)
            except SpeechpipeError as error:
                error.advise(error.steps if steps else ())
                raise
    typer.echo(f"{fetched} files fetched" if fetched else "nothing to fetch: all files are present and verified")


def _named(catalogue: "Catalogue", name: str) -> "list[Card]":
    """Return the VADs and recognizers of this name, in all versions, and those of the bundle of this name.

    Raises:
        UnknownName: there is none.
    """
    from speechpipe.errors import UnknownName

    found = [card for kind in ("vad", "asr") for card in catalogue.versions(kind) if name in (card.name, card.id)]
    if catalogue.knows(name):
        found += catalogue.parts(catalogue.bundle(name))
    if not found:
        message = f"there is no model or bundle {name!r}; `speechpipe models list` and `bundles list` show them"
        raise UnknownName(message, cause="not_found")
    return found
