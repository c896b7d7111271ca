"""Weights at first use: what is missing is fetched once, if the settings allow it."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from speechpipe.cascade.catalog.cards import Card
from speechpipe.cascade.catalog.download import Fetcher, Listener, megabytes, steps
from speechpipe.cascade.catalog.factories import network
from speechpipe.config import Settings
from speechpipe.errors import UnknownName


class Lines(Listener):
    """Says in one line for each card and each file what is fetched from where.

    The line of a file says why other sources were passed over, each reason once. If all fail, the error says it.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        """`say` gets the lines."""
        self._say = say
        self._size = ""
        self._reasons: list[str] = []
        self._said: set[str] = set()

    def starts(self, card: str, size: int, folder: Path) -> None:
        """Say so."""
        self._say(f"{card}: fetching {megabytes(size) or 'weights'} into {folder}")

    def begins(self, file: str, size: int, source: str) -> None:
        """Remember the size."""
        self._size = f" ({megabytes(size)})" if size else ""

    def failed(self, file: str, source: str, reason: str) -> None:
        """Remember why."""
        self._reasons.append(f"{source}: {reason}")

    def fetched(self, file: str, source: str) -> None:
        """Say where the file came from."""
        fresh = [reason for reason in self._reasons if reason not in self._said]
        self._said.update(fresh)
        self._reasons.clear()
        self._say(f"{file}{self._size} from {source}{''.join(f'; not from {reason}' for reason in fresh)}")

    def waits(self, card: str) -> None:
        """Say so."""
        self._say(f"{card} is being fetched by another process; waiting for it")


def ensure(
    cards: Iterable[Card], settings: Settings, listener: Listener, outcomes: Counter[tuple[str, str]] | None = None
) -> None:
    """Fetch the files that `cards` lack. `outcomes` counts the attempts by kind of source and outcome.

    Raises:
        UnknownName: files are missing, and the settings do not allow fetching them at first use.
        BadInput, FetchFailed: no source has them (`Fetcher.fetch`).
    """
    missing = list({card.id: card for card in cards if card.absent}.values())
    if not missing:
        return
    if not settings.models_pull:
        names = " ".join(card.name for card in missing)
        error = UnknownName(
            f"weights are missing, and SPEECHPIPE_MODELS_PULL is false: speechpipe models pull {names}",
            param="model",
            cause="weights_missing",
        )
        raise error.advise([line for card in missing for line in steps(card)])
    fetcher = Fetcher(network(settings), listener, outcomes)
    for card in missing:
        fetcher.fetch(card)
