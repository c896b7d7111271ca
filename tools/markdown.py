"""Pieces of generated pages."""

import re
from collections.abc import Iterable, Sequence


def cell(text: object) -> str:
    """Return a text that can stand in a cell of a table."""
    return re.sub(r"\s*\n\s*", " ", str(text)).replace("|", "\\|").strip()


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(cell(item) for item in row) + " |" for row in rows), ""]


def page(title: str, source: str, lines: Iterable[str]) -> str:
    """Return a page that says what it is made of."""
    return "\n".join([f"# {title}", "", f"Generated from {source}.", "", *lines]).rstrip() + "\n"
