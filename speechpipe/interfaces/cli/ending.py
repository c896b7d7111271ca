"""How the command line ends: the right exit code, one line on standard error for what went wrong, and nothing else."""

import atexit
import contextlib
import errno
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from speechpipe.errors import BadInput, SpeechpipeError

GOOD, FAILED, USAGE, INTERRUPTED, NO_READER = 0, 1, 2, 130, 141

TRACEBACK_FLAG = "--traceback"


def run(command: Callable[[], object]) -> None:
    """Run `command` and end the process."""
    _replace_closed()
    # Registered before the command loads anything, so that it is the last of what Python does at exit.
    ending = _Ending()
    atexit.register(ending)
    ending.code = _code_of(command)
    sys.exit(ending.code)


def _replace_closed() -> None:
    """Give what was closed by whoever started the process (`>&-`) a descriptor again.

    Else the next file that is opened, such as the store, gets its number, and what a library prints lands in it. What
    is read from such an input or written to such an output fails; nobody reads standard error then, so it takes all.
    """
    flags = (os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)
    for number, (name, flag) in enumerate(zip(("stdin", "stdout", "stderr"), flags, strict=True)):
        if getattr(sys, name) is not None:
            continue
        found = os.open(os.devnull, flag)
        if found != number:  # it is taken: Python opened something since
            os.close(found)
            continue
        os.set_inheritable(number, True)
        opened = open(number, "r" if name == "stdin" else "w", closefd=False, encoding="utf-8")  # noqa: SIM115
        setattr(sys, name, opened)


class _Ending:
    """Writes out what waits, and ends the process without taking the interpreter apart.

    A server's routes are held by compiled libraries (pydantic) in a way that Python's collector of cycles does not
    see, so objects of others are still there when the interpreter ends. One of those libraries (datasketches, by
    nanobind) prints fifty lines about "leaked" instances then, for which it has no switch. Nothing that matters would
    come after this: threads that are no daemons were waited for, and everything else that wants to know of the exit
    was told before.
    """

    code = FAILED  # of a process that ends in a way that nobody has foreseen

    def __call__(self) -> None:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            if stream is None or stream.closed:
                continue
            try:
                stream.flush()
            except BrokenPipeError:
                self.code = self.code or NO_READER
            except OSError as error:
                if self.code == GOOD:
                    self.code = FAILED
                    with contextlib.suppress(OSError):
                        os.write(2, f"speechpipe: the output is not complete: {words(error)}\n".encode())
        os._exit(self.code)


def say(text: str) -> None:
    """Say something that is not a result; nobody may be listening."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"speechpipe: {text}\n")


def words(error: OSError) -> str:
    """Return what the operating system refused, with the name of the file once."""
    if error.errno == errno.EBADF and error.filename is None:
        return "standard input or output is closed"
    if error.filename is None:
        return error.strerror or str(error) or type(error).__name__
    name = os.fsdecode(error.filename) if isinstance(error.filename, bytes | str) else str(error.filename)
    return f"{name}: {error.strerror or type(error).__name__}"


def _code_of(command: Callable[[], object]) -> int:
    code = FAILED
    try:
        command()
        code = GOOD
    except SystemExit as ended:
        code = _code(ended)
    except SpeechpipeError as error:
        say(error.message)
        code = USAGE if isinstance(error, BadInput) else FAILED
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of our output left (`| head`): say nothing
        code = NO_READER
    except ImportError as error:
        say(f"cannot load {error.name or 'a library'}: {error}; `speechpipe doctor` shows what is missing")
    except OSError as error:
        say(words(error))
    except MemoryError:
        say("there is not enough memory")
    except Exception as error:  # noqa: BLE001 - whatever broke: people get one line
        _unforeseen(error)
    return code


def _code(ended: SystemExit) -> int:
    if ended.code is None:
        return GOOD
    if isinstance(ended.code, int):
        return ended.code
    say(str(ended.code))
    return FAILED


def _unforeseen(error: Exception) -> None:
    """A defect of this program: one line with its place; all of it for who asks."""
    if TRACEBACK_FLAG in sys.argv:
        traceback.print_exception(error)
        return
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}"
    say(f"unexpected {type(error).__name__}: {error} ({place}); `speechpipe {TRACEBACK_FLAG} ...` shows how it came")
