"""Listening sockets, opened before the models are loaded, so that a wrong address is reported at once."""

import contextlib
import errno
import os
import socket

from speechpipe.errors import BadInput

BACKLOG = 2048
"""Connections that may wait for the event loop to accept them."""

SILENT_S = 5
"""On Linux, the kernel keeps a connection that sends nothing to itself for 5 to 7 seconds, so that clients that open
thousands of silent connections reach this process less often (tcp(7), TCP_DEFER_ACCEPT)."""


def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets for every address of `host`; port 0 is any free port, the same for all of them.

    Raises:
        BadInput: the address is not of this machine, or the port is not available; the message says which.
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
                with contextlib.suppress(OSError):  # not available in some containers
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, SILENT_S)
            wanted: int = opened[0].getsockname()[1] if opened and port == 0 else port
            try:
                one.bind((address[0], wanted, *address[2:]))
                one.listen(BACKLOG)
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL and opened:
                    one.close()  # for example, `localhost` without IPv6: one address is enough
                    continue
                raise BadInput(_why(host, wanted, error)) from error
            one.setblocking(False)
            opened.append(one)
        undo.pop_all()
    return opened


def url_of(host: str, sockets: list[socket.socket]) -> str:
    """Return the URL of the server for a browser on this machine."""
    port = sockets[0].getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _why(host: str, port: int, error: OSError) -> str:
    where = f"cannot listen on port {port} of {host}"
    if error.errno == errno.EADDRINUSE:
        return f"{where}: another program uses it; choose another port (--port, SPEECHPIPE_PORT), or 0 for any free one"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{where}: this is not an address of this machine (--host, SPEECHPIPE_HOST)"
    return f"{where}: {os.strerror(error.errno) if error.errno else error}"
