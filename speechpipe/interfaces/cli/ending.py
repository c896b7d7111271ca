"""The end of a command: its exit code, and one line on standard error if it failed."""

import atexit
import contextlib
import errno
import logging
import os
import signal
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
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Exit handlers and the end of threads follow, where Python would print the traceback of a KeyboardInterrupt.
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    sys.exit(ending.code)


def _replace_closed() -> None:
    """Reopen standard streams that the parent process closed (`>&-`).

    Otherwise the next opened file, such as the store, would get their descriptor, and output of libraries would be
    written into it. Reading from a reopened input or writing to a reopened output fails; standard error discards.
    """
    flags = (os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)
    for number, (name, flag) in enumerate(zip(("stdin", "stdout", "stderr"), flags, strict=True)):
        if getattr(sys, name) is not None:
            continue
        found = os.open(os.devnull, flag)
        if found != number:  # the descriptor is in use: Python has opened a file since
            os.close(found)
            continue
        os.set_inheritable(number, True)
        opened = open(number, "r" if name == "stdin" else "w", closefd=False, encoding="utf-8")  # noqa: SIM115
        setattr(sys, name, opened)


class _Ending:
    """Flushes the output, and ends the process without finalising the interpreter.

    Compiled libraries (pydantic) hold a server's routes in a way that the garbage collector does not see, so objects
    still exist when the interpreter ends. One of those libraries (datasketches, by nanobind) would then print fifty
    lines about "leaked" instances and cannot be told not to. Nothing needed comes later: threads that are not
    daemons have ended, and the other exit handlers have run.
    """

    code = FAILED  # if the process ends in an unexpected way

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
    """Write a message to standard error, which may be closed."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"speechpipe: {text}\n")


def words(error: OSError) -> str:
    """Return the text of an operating system error, with the file name once."""
    if error.errno == errno.EBADF and error.filename is None:
        return "standard input or output is closed"
    if error.filename is None:
        return error.strerror or str(error) or type(error).__name__
    name = os.fsdecode(error.filename) if isinstance(error.filename, bytes | str) else str(error.filename)
    return f"{name}: {error.strerror or type(error).__name__}"


def _code_of(command: Callable[[], object]) -> int:
    code = FAILED
    try:
        if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):
            # Until here `speechpipe.__main__` ends the process at once; from here on, commands clean up.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        command()
        code = GOOD
    except SystemExit as ended:
        code = _code(ended)
    except SpeechpipeError as error:
        say(error.message)
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.writelines(f"{line}\n" for line in error.steps)
        code = USAGE if isinstance(error, BadInput) else FAILED
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of our output has ended (`| head`)
        code = NO_READER
    except ImportError as error:
        say(f"cannot load {error.name or 'a library'}: {error}; `speechpipe doctor` shows what is missing")
    except OSError as error:
        say(words(error))
    except MemoryError:
        say("there is not enough memory")
    except Exception as error:  # noqa: BLE001 - whatever failed, the user gets one line
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
    """Report a defect of the program: one line with its place, or the whole traceback on request."""
    if TRACEBACK_FLAG in sys.argv:
        traceback.print_exception(error)
        return
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}"
    say(f"unexpected {type(error).__name__}: {error} ({place}); `speechpipe {TRACEBACK_FLAG} ...` shows the traceback")
