"""A reverse proxy that serves another server under a prefix, which it strips: HTTP and websockets, byte by byte."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit


@contextlib.contextmanager
def proxy(url: str, prefix: str) -> Iterator[str]:
    """Serve `url` under `prefix` on a port of its own; requests elsewhere are answered 404."""
    target = urlsplit(url)
    listener = socket.create_server(("127.0.0.1", 0))
    closing = threading.Event()

    def serve() -> None:
        while not closing.is_set():
            with contextlib.suppress(OSError):
                client, _ = listener.accept()
                threading.Thread(target=carry, args=(client,), daemon=True).start()

    def carry(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, ValueError):
            head = b""
            while b"\r\n\r\n" not in head:
                part = client.recv(65536)
                if not part:
                    return
                head += part
            method, path, rest = head.split(b" ", 2)
            if not path.startswith(f"{prefix}/".encode()):
                client.sendall(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                return
            # One request a connection: what follows is the body, or a websocket.
            upgrade = b"upgrade: websocket" in head.lower()
            first, _, others = rest.partition(b"\r\n")
            extra = b"" if upgrade else b"Connection: close\r\n"
            extra += f"X-Forwarded-Prefix: {prefix}\r\n".encode()
            if not upgrade:
                lines = others.split(b"\r\n")
                others = b"\r\n".join(line for line in lines if not line.lower().startswith(b"connection:"))
            with socket.create_connection((target.hostname or "", target.port or 80)) as server:
                server.sendall(b" ".join([method, path[len(prefix) :], first]) + b"\r\n" + extra + others)
                threading.Thread(target=pump, args=(client, server), daemon=True).start()
                pump(server, client)

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        closing.set()
        listener.close()
