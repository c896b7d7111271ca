"""The command line, with one file for each group of commands. Heavy modules are imported when a command runs."""

from importlib import import_module

import typer

from speechpipe import __version__
from speechpipe.foundation import system
from speechpipe.interfaces.cli import ending

app = typer.Typer(
    name="speechpipe",
    help="Run a VAD -> ASR cascade and see what each of its stages did.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


FAMILIES = (
    "transcribe",
    "stream",
    "evaluate",
    "serve",
    "bundles",
    "models",
    "report",
    "alarms",
    "blame",
    "replay",
    "reference",
    "metrics",
    "rollout",
    "automation",
    "hotwords",
    "review",
    "train",
    "retrain",
    "bench",
    "bench_blame",
    "bench_day",
    "bench_effects",
    "bench_recognizer",
    "bench_rollout",
    "doctor",
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"speechpipe {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    traceback: bool = typer.Option(False, ending.TRACEBACK_FLAG, help="Show the traceback of an unexpected error."),
) -> None:
    del version, traceback  # `ending` looks for the flag itself, because an error may occur before flags are parsed


def main() -> None:
    """Entry point. Exit codes: 0 success, 1 failure, 2 wrong usage."""
    system.one_algebra_thread()
    ending.run(_command)


def _command() -> None:
    for family in FAMILIES:
        import_module(f"speechpipe.interfaces.cli.{family}")  # each module adds its commands
    app()
