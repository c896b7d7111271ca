"""Progress bars on a terminal; nothing is shown in a pipe."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

NAME_WIDTH = 40


@contextmanager
def bar() -> Iterator[Callable[[str, float], None]]:
    """Show a bar for one piece of work; yields a function that takes a description and the share done (0 to 1)."""
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
    """A bar for all files, and one in seconds of audio for each file in progress. Output is printed above them."""

    def __init__(self, files: int) -> None:
        # On standard error, so that the bar stays visible if the output is redirected.
        self._console = Console(stderr=True)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            # Results are written to standard output; Rich would redirect them to the bar's console.
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
        """Show a bar for one file of about `seconds`; yields a function that takes the position in seconds."""
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
            OSError: it cannot be written; the error names standard output.
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
        """Print a message that is not a result, on standard error."""
        if self._console.is_terminal:
            self._bar.console.out(text, highlight=False)
        else:
            sys.stderr.write(text + "\n")
