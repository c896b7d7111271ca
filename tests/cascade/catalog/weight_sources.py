"""Sources of weights for tests: a web server with the hub's paths, and a folder of wheels that pip is told to use."""

import http.server
import os
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from speechpipe.cascade.catalog.cards import Card, CardFile
from speechpipe.cascade.catalog.download import Fetcher, Listener
from speechpipe.cascade.catalog.sources import Network

REVISION = "0" * 39 + "1"


class Site:
    """What a web server has, and what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.breaks_after: int | None = None  # bytes of each answer, after which the connection is closed
        self.knows_ranges = True
        self.before_answer: Callable[[], object] = lambda: None
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.url = ""

    @property
    def paths(self) -> list[str]:
        """The paths that were asked for, in order."""
        return [path for path, _ in self.asked]

    def headers(self, name: str) -> list[str | None]:
        """What the requests had in a header, in order."""
        return [headers.get(name) for _, headers in self.asked]


@contextmanager
def serving() -> Iterator[Site]:
    """Serve a site on this machine."""
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append((self.path, dict(self.headers.items())))
            site.before_answer()
            if self.path in site.redirects:
                self.send_response(302)
                self.send_header("Location", site.redirects[self.path])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = site.files.get(self.path)
            if data is None:
                self.send_error(404)
                return
            start = 0
            asked = self.headers.get("Range") if site.knows_ranges else None
            if asked:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                if start >= len(data):
                    self.send_error(416)
                    return
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            self.wfile.write(data[start : start + site.breaks_after] if site.breaks_after else data[start:])
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        site.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield site
        server.shutdown()


def wheel(folder: Path, name: str, files: dict[str, bytes], version: str = "1.0.0") -> Path:
    """Write a wheel with these files."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name.replace('-', '_')}-{version}"
    path = folder / f"{stem}-py3-none-any.whl"
    about = {
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{stem}.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{stem}.dist-info/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside, data in (files | about).items():
            archive.writestr(inside, data)
    return path


def pip_settings(folder: Path) -> dict[str, str]:
    """Return the variables by which pip uses only the wheels of a folder."""
    return {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder),
        "PIP_EXTRA_INDEX_URL": "",
    }


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip, and nothing but it, is told to use."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name, value in pip_settings(folder).items():
        monkeypatch.setenv(name, value)
    return folder


def card_of(*files: CardFile) -> Card:
    """Return a recognizer with these files."""
    return Card("asr", "mine", "1.0.0", "a test's", ("en",), Path("mine.toml"), files=files)


class Heard(Listener):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.seen: list[tuple[int, int | None]] = []
        self.waiting = threading.Event()
        self.stop = False

    def begins(self, file: str, size: int, source: str) -> None:
        self.lines.append(f"begins {file} {source}")

    def progress(self, done: int, total: int | None) -> None:
        self.seen.append((done, total))

    def failed(self, file: str, source: str, reason: str) -> None:
        self.lines.append(f"failed {file} {source}: {reason}")

    def fetched(self, file: str, source: str) -> None:
        self.lines.append(f"fetched {file} {source}")

    def waits(self, card: str) -> None:
        self.waiting.set()

    def stopped(self) -> bool:
        return self.stop


def fetch_one(file: CardFile, listener: Listener | None = None) -> bool:
    """Fetch one file; return whether it was fetched."""
    return Fetcher(Network(), listener).fetch(card_of(file)) == 1
