"""`speechpipe serve`: the HTTP server."""

from typing import Annotated

import typer

from speechpipe.cli import app
from speechpipe.cli.flags import WorkersOption


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on [SPEECHPIPE_HOST, 127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="[SPEECHPIPE_PORT, 8000]; 0 = any.")] = None,
    bundle: Annotated[str | None, typer.Option("--bundle", "-b", help="The champion [default].")] = None,
    workers: WorkersOption = 0,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Serve the upload API. All settings: SPEECHPIPE_* (docs/api.md)."""
    from speechpipe.api.server import run
    from speechpipe.cli.options import settings

    given = {"host": host, "port": port, "bundle": bundle, "workers": workers or None, "log_level": log_level}
    run(settings(**{name: value for name, value in given.items() if value is not None}))
