"""A progress bar on a terminal, nothing in a pipe."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

NAME_WIDTH = 40


@contextmanager
def bar() -> Iterator[Callable[[str, float], None]]:
    """Show one piece of work on a terminal; yields how to say what is done and how much of it (0 to 1)."""
    console = Console(stderr=True)
    shown = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with shown:
        task = shown.add_task("starting", total=1.0)
        yield lambda what, share: shown.update(task, description=what, completed=share)


class Progress:
    """One bar for the files and one in seconds of audio for each file in progress; output goes above them."""

    def __init__(self, files: int) -> None:
        # On standard error, so that the text can be redirected while the bar stays visible.
        self._console = Console(stderr=True)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            # Results go to standard output themselves; Rich would send them to the bar's console.
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not self._console.is_terminal,
        )
        self._files = self._bar.add_task("files", total=files, visible=files > 1)

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @contextmanager
    def file(self, name: str, seconds: float | None) -> Iterator[Callable[[float], None]]:
        """Show one file of about `seconds` while it is worked on; yields how to say how far it is."""
        short = name if len(name) < NAME_WIDTH else f"...{name[-NAME_WIDTH:]}"
        task = self._bar.add_task(short, total=seconds or 1.0)
        try:
            yield lambda position: self._bar.update(task, completed=position)
        finally:
            self._bar.remove_task(task)
            self._bar.advance(self._files)

    def print(self, text: str) -> None:
        """Print a result on standard output.

        Raises:
            OSError: it cannot be written; it names standard output.
        """
        if sys.stdout.isatty() and self._console.is_terminal:
            self._bar.console.out(text, highlight=False)
            return
        try:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, "standard output") from error

    def say(self, text: str) -> None:
        """Tell the person something that is not a result."""
        if self._console.is_terminal:
            self._bar.console.out(text, highlight=False)
        else:
            sys.stderr.write(text + "\n")
