"""Registry: a table from names to implementations (`"module:attribute"`), imported at first use."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from speechpipe.errors import UnknownName


class Registry:
    """A fixed table of the implementations of one interface, for example all VADs.

    An implementation is imported only when it is loaded, so that unused libraries cost nothing at start.
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
            UnknownName: the table has no such name; the message lists those it has.
            ImportError: the implementation's library is not installed.
        """
        if name not in self._table:
            raise UnknownName(f"unknown {self.kind} {name!r}; known: {', '.join(self)}")
        module, _, attribute = self._table[name].partition(":")
        return getattr(import_module(module), attribute)
