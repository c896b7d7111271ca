"""Bundles of one's own and their weights: added, compared, verified, fetched over a line that breaks."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import CardFile, shipped_models
from speechpipe.cascade.catalog.local import derived, install
from speechpipe.errors import BadInput, Conflict, FetchFailed, InvalidParameter
from tests.cascade.catalog.weight_sources import Heard, fetch_one

DATA = bytes(range(256)) * 4096  # 1 MiB
SHA = hashlib.sha256(DATA).hexdigest()


class Weights(BaseHTTPRequestHandler):
    """Serves `DATA`; may break off after so many bytes, and may not know ranges."""

    breaks_after = 0
    knows_ranges = True
    asked: list[str]

    def do_GET(self) -> None:
        type(self).asked.append(self.headers.get("Range", ""))
        if self.path == "/gone":
            self.send_error(404)
            return
        start = 0
        if self.knows_ranges and (asked := self.headers.get("Range")):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(DATA):
                self.send_error(416)
                return
            self.send_response(206)
        else:
            self.send_response(200)
        body = DATA[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.breaks_after:
            self.wfile.write(body[: self.breaks_after])
            self.wfile.flush()
            self.close_connection = True
            return
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def weights() -> Iterator[tuple[type[Weights], str]]:
    handler = type("Handler", (Weights,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def card_file(folder: Path, url: str, sha256: str = SHA) -> CardFile:
    return CardFile("model.bin", sha256, url=f"{url}/model.bin", folder=folder)


def test_weights_are_fetched_once(weights: tuple[type[Weights], str], tmp_path: Path) -> None:
    handler, url = weights
    file = card_file(tmp_path, url)
    assert "models pull" in file.problem()
    heard = Heard()
    assert fetch_one(file, heard)
    assert heard.seen[-1] == (len(DATA), len(DATA))
    assert file.problem() == ""
    assert not fetch_one(file), "it is there"
    assert len(handler.asked) == 1


def test_what_was_cut_off_is_gone_on_with(weights: tuple[type[Weights], str], tmp_path: Path) -> None:
    handler, url = weights
    handler.breaks_after = 100_000
    with pytest.raises(FetchFailed, match="the part that arrived is kept"):
        fetch_one(card_file(tmp_path, url))
    part = tmp_path / "model.bin.part"
    assert part.stat().st_size == 500_000, "five connections, each went on"
    handler.breaks_after = 0
    assert fetch_one(card_file(tmp_path, url))
    assert handler.asked[-1] == "bytes=500000-"
    assert (tmp_path / "model.bin").read_bytes() == DATA
    assert not part.exists()


def test_a_server_without_ranges_is_asked_for_all_again(weights: tuple[type[Weights], str], tmp_path: Path) -> None:
    handler, url = weights
    handler.knows_ranges = False
    (tmp_path / "model.bin.part").write_bytes(b"x" * 1000)
    assert fetch_one(card_file(tmp_path, url))


def test_a_part_that_is_too_long_is_begun_anew(weights: tuple[type[Weights], str], tmp_path: Path) -> None:
    _, url = weights
    (tmp_path / "model.bin.part").write_bytes(b"x" * (len(DATA) + 5))
    assert fetch_one(card_file(tmp_path, url))


def test_other_bytes_than_the_card_says_are_refused(weights: tuple[type[Weights], str], tmp_path: Path) -> None:
    _, url = weights
    with pytest.raises(BadInput, match="the download was deleted"):
        fetch_one(card_file(tmp_path, url, "0" * 64))
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_has_it_not_or_is_not_there_is_said(weights: tuple[type[Weights], str], tmp_path: Path) -> None:
    _, url = weights
    with pytest.raises(FetchFailed, match="404"):
        fetch_one(CardFile("m", SHA, url=f"{url}/gone", folder=tmp_path))
    with pytest.raises(FetchFailed, match="cannot be reached"):
        fetch_one(card_file(tmp_path, "http://127.0.0.1:9"))
    with pytest.raises(BadInput, match="needs an http or https URL"):
        fetch_one(CardFile("m", SHA, url="file:///etc/passwd", folder=tmp_path))


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd"])
def test_a_card_cannot_write_outside_its_folder(path: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="inside its folder"):
        CardFile(path, SHA, url="http://x/y", folder=tmp_path)


# ---- bundles ----


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue([shipped_models(), tmp_path])


def test_a_variant_is_added_and_differs_in_what_was_set(catalogue: Catalogue, tmp_path: Path) -> None:
    text = derived(catalogue, catalogue.bundle("embedded"), "strict", "1.0.0", {"vad.threshold": 0.9, "asr.topn": 4})
    install(text, tmp_path, catalogue)
    install(text, tmp_path, catalogue)  # the same again is no other
    catalogue.reload()
    first, second = catalogue.bundle("embedded"), catalogue.bundle("strict")
    assert catalogue.differences(first, second) == [("asr.topn", "2", "4"), ("vad.threshold", "0.5", "0.9")]
    assert catalogue.digest(first) != catalogue.digest(second)
    assert catalogue.problems(second) == []


def test_a_version_never_changes_and_two_can_be_there(catalogue: Catalogue, tmp_path: Path) -> None:
    bundle = catalogue.bundle("default")
    install(derived(catalogue, bundle, "mine", "1", {}), tmp_path, catalogue)
    with pytest.raises(Conflict, match="give it another version"):
        install(derived(catalogue, bundle, "mine", "1", {"vad.threshold": 0.9}), tmp_path, catalogue)
    install(derived(catalogue, bundle, "mine", "2", {"vad.threshold": 0.9}), tmp_path, catalogue)
    catalogue.reload()
    assert catalogue.bundle("mine").version == "2"
    assert catalogue.bundle("mine@1").segmenter["threshold"] == 0.5


def test_a_card_that_is_broken_is_not_added(catalogue: Catalogue, tmp_path: Path) -> None:
    good = derived(catalogue, catalogue.bundle("default"), "mine", "1", {})
    for text, message in [
        ("kind = ", "Invalid value"),
        (good.replace('card = "silero"', 'card = "nobody"'), "nobody"),
        (good.replace("threshold = 0.5", "threshold = 7"), "threshold"),
        (good.replace('name = "mine"', 'name = "../mine"'), "name must be letters"),
    ]:
        with pytest.raises(BadInput, match=message):
            install(text, tmp_path, catalogue)
    with pytest.raises(InvalidParameter):
        derived(catalogue, catalogue.bundle("default"), "mine", "1", {"vad.colour": 1})
    assert list(tmp_path.rglob("*.toml")) == []


def test_a_broken_card_that_comes_leaves_what_was_there(catalogue: Catalogue, tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("kind = 'bundle'\nname = 'x'")
    with pytest.raises(BadInput):
        catalogue.reload()
    assert catalogue.bundle("default").name == "default"
