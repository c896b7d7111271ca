"""HTTP route of the runbook, which alarms link to."""

import html
import re
from functools import lru_cache
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from speechpipe.interfaces.api.access import Role, access
from speechpipe.interfaces.api.pages import HEADERS

PACKAGED = Path(__file__).parents[3] / "_runbook.md"
SOURCE = Path(__file__).parents[4] / "docs" / "runbook.md"


def router() -> APIRouter:
    """Return the route."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/runbook")
    @access(Role.OPEN)
    def runbook() -> HTMLResponse:
        return HTMLResponse(page(), headers=HEADERS)

    return routes


@lru_cache(maxsize=1)
def page() -> str:
    """Return the runbook as an HTML page, with an anchor at each metric's heading."""
    text = (PACKAGED if PACKAGED.exists() else SOURCE).read_text(encoding="utf-8")
    parts = []
    for index, part in enumerate(text.split("```")):  # every second part is a block of commands
        if index % 2:
            parts.append(f"<pre>{html.escape(part.strip())}</pre>")
        else:
            parts += [_block(block.strip()) for block in part.split("\n\n") if block.strip()]
    body = "\n".join(parts)
    head = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Runbook</title></head>'
    return f"{head}<body><main>{body}</main></body></html>"


def _block(block: str) -> str:
    """Return a heading, with the paragraph below it if there is one, or a paragraph."""
    heading, _, rest = block.partition("\n")
    if not heading.startswith("#"):
        return f"<p>{_marked(block)}</p>"
    title = heading.lstrip("#").strip()
    level = len(heading) - len(heading.lstrip("#"))
    shown = f'<h{level} id="{html.escape(title.replace(".", ""))}">{html.escape(title)}</h{level}>'
    return f"{shown}\n<p>{_marked(rest.strip())}</p>" if rest.strip() else shown


def _marked(text: str) -> str:
    """Return a text with its commands and emphasis marked; of a link its text, for the other pages are not here."""
    text = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", html.escape(text))
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)
