"""The templates of the pages, and how figures are written in them."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from speechpipe import plots

WEB = Path(__file__).parent / "web"


def percent(share: float | None) -> str:
    """Return a share as people read it."""
    return "–" if share is None else f"{share:.1%}"


def environment() -> Environment:
    """Return where templates come from; whatever they are given is escaped."""
    found = Environment(loader=FileSystemLoader(WEB), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    found.globals.update(clock=plots.clock, number=plots.number, percent=percent)
    return found
