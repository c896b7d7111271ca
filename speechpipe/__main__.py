"""The entry point of `speechpipe` and `python -m speechpipe`."""

import os
import signal


def main() -> None:
    """Run the command line. Ctrl-C ends the process silently also while modules are imported.

    Nothing but this module is imported before: a Ctrl-C that Python gets before it runs this module is not handled.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # No KeyboardInterrupt: a module that is being imported could catch it, or be left half imported.
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from speechpipe.interfaces.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()
