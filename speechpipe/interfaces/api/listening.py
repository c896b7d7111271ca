"""Where the server listens, opened before anything heavy is loaded: whoever gives a wrong address hears it at once."""

import contextlib
import errno
import os
import socket

from speechpipe.errors import BadInput

BACKLOG = 2048
"""Connections that wait until the event loop takes them."""

SILENT_S = 5
"""Where the system can (Linux), it keeps a connection that sends nothing to itself for 5 to 7 seconds: those who open
thousands and send nothing do not reach this process more often than that (tcp(7), TCP_DEFER_ACCEPT)."""


def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets for every address of `host`; port 0 is any free one, the same for all of them.

    Raises:
        BadInput: no address of this machine, or the port is not to be had; the message says which.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise BadInput(f"cannot listen on {host!r}: {why} (--host, SPEECHPIPE_HOST)") from error
    opened: list[socket.socket] = []
    with contextlib.ExitStack() as undo:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = undo.enter_context(socket.socket(family, kind, protocol))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if hasattr(socket, "TCP_DEFER_ACCEPT"):
                with contextlib.suppress(OSError):  # some containers do not have it
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, SILENT_S)
            wanted: int = opened[0].getsockname()[1] if opened and port == 0 else port
            try:
                one.bind((address[0], wanted, *address[2:]))
                one.listen(BACKLOG)
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL and opened:
                    one.close()  # `localhost` where there is no IPv6: one address is enough
                    continue
                raise BadInput(_why(host, wanted, error)) from error
            one.setblocking(False)
            opened.append(one)
        undo.pop_all()
    return opened


def url_of(host: str, sockets: list[socket.socket]) -> str:
    """Return the URL that a browser on this machine opens."""
    port = sockets[0].getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _why(host: str, port: int, error: OSError) -> str:
    where = f"cannot listen on port {port} of {host}"
    if error.errno == errno.EADDRINUSE:
        return f"{where}: another program does; choose another port (--port, SPEECHPIPE_PORT), 0 for any that is free"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{where}: that is no address of this machine (--host, SPEECHPIPE_HOST)"
    return f"{where}: {os.strerror(error.errno) if error.errno else error}"
