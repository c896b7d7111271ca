"""Names to implementations: a table of `"module:attribute"` strings, loaded when a name is chosen."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from speechpipe.errors import UnknownName


class Registry:
    """A fixed table of implementations of one door.

    Loading is late so that `speechpipe --help` never pays for a library that nobody asked for.
    """

    def __init__(self, kind: str, table: Mapping[str, str]) -> None:
        self.kind = kind
        self._table = dict(table)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._table))

    def __contains__(self, name: str) -> bool:
        return name in self._table

    def load(self, name: str) -> Any:
        """Return the class or function behind `name`.

        Raises:
            UnknownName: no such row; the message lists the rows there are.
            ImportError: the row's library is not installed.
        """
        if name not in self._table:
            raise UnknownName(f"unknown {self.kind} {name!r}; known: {', '.join(self)}")
        module, _, attribute = self._table[name].partition(":")
        return getattr(import_module(module), attribute)
