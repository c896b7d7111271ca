"""The Jinja environment of the pages, and the formatting of numbers."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from speechpipe.foundation.times import clock
from speechpipe.interfaces.web import charts

STATIC = Path(__file__).parent / "static"
TEMPLATES = Path(__file__).parent / "templates"


def percent(share: float | None) -> str:
    """Return a share formatted in per cent; a dash for None."""
    return "–" if share is None else f"{share:.1%}"


def environment() -> Environment:
    """Return the Jinja environment; it escapes all values."""
    loader = FileSystemLoader(TEMPLATES)
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    found.globals.update(clock=clock, number=charts.number, percent=percent)
    return found
