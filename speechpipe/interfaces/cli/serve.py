"""`speechpipe serve`: the HTTP server."""

from typing import Annotated

import typer

from speechpipe.interfaces.cli import app
from speechpipe.interfaces.cli.flags import WorkersOption


@app.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. Default: SPEECHPIPE_HOST, or 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Default: SPEECHPIPE_PORT, or 8000; 0 = any free port.")
    ] = None,
    bundle: Annotated[
        str | None, typer.Option("--bundle", "-b", help="The champion. Default: SPEECHPIPE_BUNDLE, or `default`.")
    ] = None,
    workers: WorkersOption = 0,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Serve uploads, live audio, the dashboard and the review page.

    All settings are environment variables, SPEECHPIPE_NAME (docs/api.md).

    Example: SPEECHPIPE_API_KEYS=secret speechpipe serve --port 9000
    """
    from speechpipe.interfaces.cli.options import settings

    given = {"host": host, "port": port, "bundle": bundle, "workers": workers or None, "log_level": log_level}
    chosen = settings(**{name: value for name, value in given.items() if value is not None})
    from speechpipe.interfaces.api.server import run  # takes a second, during which a wrong setting would not be told

    run(chosen)
