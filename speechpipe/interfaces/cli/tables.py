"""Tables of lists: as wide as a terminal, one line for each row in a pipe, and names in one piece in both."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # rich is imported when a table is printed
    from rich.table import Table

UNLIMITED = 1000
"""Characters of a line in a pipe."""


def listing(*titles: str, names: tuple[str, ...] = ()) -> "Table":
    """Return an empty table with these columns. Those in `names` are never broken into lines."""
    from rich.table import Table

    table = Table(box=None)
    for title in titles:
        table.add_column(title, overflow="fold", no_wrap=title in names)
    return table


def show(table: "Table") -> None:
    """Print a table on standard output."""
    from rich.console import Console

    Console(width=None if Console().is_terminal else UNLIMITED).print(table)
