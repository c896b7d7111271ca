"""Shows how weights are fetched: a bar on a terminal, lines elsewhere, always on standard error."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.download import Listener
from speechpipe.cascade.catalog.first_use import Lines, ensure
from speechpipe.config import Settings
from speechpipe.interfaces.cli import ending
from speechpipe.types import Bundle


@contextmanager
def shown() -> Iterator[Listener]:
    """Give a listener that shows what is fetched."""
    if not sys.stderr.isatty():
        yield Lines(ending.say)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        yield _Bar(bar, console)


class _Bar(Lines):
    """A bar for the file in progress; files that are complete stand above it as lines."""

    def __init__(self, bar: "object", console: "object") -> None:
        from rich.console import Console
        from rich.progress import Progress

        assert isinstance(bar, Progress)
        assert isinstance(console, Console)
        super().__init__(lambda line: console.out(line, highlight=False))
        self._bar = bar
        self._task = bar.add_task("", visible=False)

    def begins(self, file: str, size: int, source: str) -> None:
        super().begins(file, size, source)
        self._bar.reset(self._task, description=f"{file} from {source}", total=size or None, visible=True)

    def progress(self, done: int, total: int | None) -> None:
        self._bar.update(self._task, completed=done, total=total)


def fetch_missing(settings: Settings, catalogue: Catalogue, bundles: Iterable[Bundle]) -> None:
    """Fetch the weights that bundles lack, before a command uses them.

    Raises:
        BadInput, FetchFailed: they cannot be had, or the settings do not allow fetching; `steps` say what to do.
    """
    cards = [card for bundle in bundles for card in catalogue.parts(bundle) if card.absent]
    if cards:
        with shown() as listener:
            ensure(cards, settings, listener)
