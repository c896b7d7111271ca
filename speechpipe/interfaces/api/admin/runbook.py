"""HTTP route of the runbook, which alarms link to."""

import html
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
    for block in text.split("\n\n"):
        heading, _, rest = block.strip().partition("\n")
        if heading.startswith("#"):
            title = heading.lstrip("#").strip()
            level = len(heading) - len(heading.lstrip("#"))
            parts.append(f'<h{level} id="{html.escape(title.replace(".", ""))}">{html.escape(title)}</h{level}>')
        else:
            rest = block
        if rest.strip():
            parts.append(f"<p>{html.escape(rest.strip())}</p>")
    body = "\n".join(parts)
    head = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Runbook</title></head>'
    return f"{head}<body><main>{body}</main></body></html>"
