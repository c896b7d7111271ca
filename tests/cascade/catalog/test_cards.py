"""Cards from elsewhere: no field of theirs makes anything be written, read or imported outside their own folder."""

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import read_card, shipped_models
from speechpipe.cascade.catalog.local import install
from speechpipe.cascade.catalog.sources import HubSource, UrlSource, WheelSource
from speechpipe.errors import BadInput, FetchFailed
from tests.cascade.catalog.weight_sources import fetch_one

SHA = "0" * 64


def card(**fields: str) -> str:
    lines = {
        "kind": "asr",
        "name": "mine",
        "version": "1.0.0",
        "implementation": "wav2vec2",
        "description": "x",
        "source": "x",
        "licence": "x",
    } | fields
    return (
        "".join(f"{key} = {value!r}\n".replace("\\\\", "\\") for key, value in lines.items()) + 'languages = ["en"]\n'
    )


def file(**fields: str) -> str:
    lines = {"path": "weights.bin", "role": "weights"} | fields
    return "[[files]]\n" + "".join(f"{key} = '{value}'\n" for key, value in lines.items())


def refused(folder: Path, text: str) -> str:
    path = folder / "asr" / "card.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(BadInput) as caught:
        Catalogue([shipped_models(), folder])
    with pytest.raises(BadInput):
        install(text, folder, Catalogue([shipped_models()]))
    assert sorted(folder.parent.rglob("*")) == before
    return caught.value.message


SOURCES = [
    "[]",
    "'x'",
    "['https://example.com/x']",
    "[{}]",
    "[{ url = 3 }]",
    "[{ url = 'file:///etc/passwd' }]",
    "[{ url = 'https://example.com/x', path = 'x' }]",
    "[{ hub = 'owner/name' }]",
    "[{ hub = 'name', revision = 'SHA1' }]",
    "[{ hub = '../name', revision = 'SHA1' }]",
    "[{ hub = 'owner/name/more', revision = 'SHA1' }]",
    "[{ hub = 'owner/name', revision = 'main' }]",
    "[{ hub = 'owner/name', revision = 'SHA1', path = '../x' }]",
    "[{ wheel = 'name', path = 'x' }]",
    "[{ wheel = 'name>=1', path = 'x' }]",
    "[{ wheel = '--editable==1', path = 'x' }]",
    "[{ wheel = 'name==1 --index-url=x', path = 'x' }]",
    "[{ wheel = 'https://example.com/x.whl', path = 'x' }]",
    "[{ wheel = 'name==1' }]",
    "[{ wheel = 'name==1', path = '../x' }]",
    "[{ wheel = ['a==1', 'b==1'], path = 'x' }]",
    "[{ wheel = [], path = [] }]",
    "[{ wheel = ['a==1', 3], path = ['x', 'y'] }]",
]


@pytest.mark.parametrize("sources", SOURCES)
def test_sources_are_what_they_say(tmp_path: Path, sources: str) -> None:
    text = card() + file(path="x", sha256=SHA) + f"sources = {sources}\n"
    refused(tmp_path / "models", text.replace("SHA1", "0" * 40))


@pytest.mark.parametrize("more", ["url = 'https://example.com/x'", "package = 'x'", "size = -1", "size = 'x'"])
def test_a_file_has_one_origin_and_a_size_in_bytes(tmp_path: Path, more: str) -> None:
    refused(
        tmp_path / "models",
        card() + file(path="x", sha256=SHA) + f"sources = [{{ url = 'https://example.com/y' }}]\n{more}\n",
    )


def test_files_with_sources_need_a_hash(tmp_path: Path) -> None:
    text = card() + file(path="x") + "sources = [{ url = 'https://example.com/x' }]\n"
    assert "needs the sha256" in refused(tmp_path / "models", text)


def test_all_kinds_of_sources_are_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    path.write_text(
        card()
        + file(path="a/x.bin", sha256=SHA)
        + "size = 5\nsources = [\n"
        + f"  {{ hub = 'owner/name', revision = '{'0' * 40}' }},\n"
        + f"  {{ hub = 'owner/name', revision = '{'0' * 40}', path = 'y z' }},\n"
        + "  { url = 'http://example.com/x' },\n"
        + "  { wheel = 'one==1.0', path = 'one/x' },\n"
        + "  { wheel = ['one==1.0', 'two==2.0'], path = [\n    'one/x',\n    'two/x',\n  ] },\n]\n"
    )
    (found,) = read_card(path).files
    assert found.size == 5
    assert found.sources == (
        HubSource("owner/name", "0" * 40, "a/x.bin"),
        HubSource("owner/name", "0" * 40, "y z"),
        UrlSource("http://example.com/x"),
        WheelSource((("one==1.0", "one/x"),)),
        WheelSource((("one==1.0", "one/x"), ("two==2.0", "two/x"))),
    )
    assert found.sources[1].address("https://hub.example/") == (
        f"https://hub.example/owner/name/resolve/{'0' * 40}/y%20z"
    )


OUT = ["../x", "..", ".", "", "/etc/x", "a/b", "a\\b", ".hidden", "-flag", "a@b", "a b", "a\u00fc", "x" * 101, "a\tb"]


@pytest.mark.parametrize("value", OUT)
@pytest.mark.parametrize("key", ["name", "version", "implementation"])
def test_names_are_names(tmp_path: Path, key: str, value: str) -> None:
    message = refused(tmp_path / "models", card(**{key: value}))
    assert "card.toml" in message


@pytest.mark.parametrize("value", ["../x@1", "x@../1", "x@1@2"])
def test_a_parent_is_a_name_and_a_version(tmp_path: Path, value: str) -> None:
    refused(tmp_path / "models", card(parent=value))


@pytest.mark.parametrize(
    "fields",
    [
        {"path": "../x", "sha256": SHA},
        {"path": "a/../../x", "sha256": SHA},
        {"path": "/etc/x", "sha256": SHA},
        {"path": "", "sha256": SHA},
        {"path": "a\\..\\..\\x", "sha256": SHA},
        {"path": "../x", "sha256": SHA, "package": "pocketsphinx"},
        {"path": "x", "sha256": SHA, "package": "os.path"},
        {"path": "x", "sha256": SHA, "package": "../pocketsphinx"},
        {"path": "x", "sha256": SHA, "folder": "/etc"},
        {"path": "x", "sha256": SHA, "kept": "/etc"},
        {"path": "x", "sha256": "../../x"},
        {"path": "x"},
        {"path": "x", "url": "file:///etc/passwd", "sha256": SHA},
        {"path": "x", "url": "ftp://example.com/x", "sha256": SHA},
        {"path": "x", "url": "http://example.com/x"},
        {"path": "x", "url": "https:///x"},
        {"path": "x", "url": "http://[x", "sha256": SHA},
    ],
    ids=str,
)
def test_files_lie_where_they_belong(tmp_path: Path, fields: dict[str, str]) -> None:
    refused(tmp_path / "models", card() + file(**fields))


def test_weights_without_a_hash_come_over_https_only(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    path.write_text(card() + file(url="https://example.com/weights.bin"))
    assert read_card(path).files[0].url


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def published(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "weights.bin").write_bytes(b"weights")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "hub"))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/weights.bin"
        server.shutdown()


@pytest.mark.parametrize("link", ["folder", "weights.bin", "weights.bin.part", "weights.bin.sha256"])
def test_nothing_is_fetched_through_a_link(tmp_path: Path, published: str, link: str) -> None:
    away = tmp_path / "away"
    away.mkdir()
    (away / "precious").write_text("precious")
    path = tmp_path / "models" / "asr" / "card.toml"
    folder = path.parent / "files" / "mine-1.0.0"
    folder.mkdir(parents=True)
    inside = "sub/weights.bin" if link == "folder" else "weights.bin"
    path.write_text(card() + file(path=inside, url=published))
    (folder / ("sub" if link == "folder" else link)).symlink_to(away if link == "folder" else away / "precious")
    with pytest.raises(BadInput):
        fetch_one(read_card(path).files[0])
    assert [one.name for one in away.iterdir()] == ["precious"]
    assert (away / "precious").read_text() == "precious"


def test_what_is_fetched_goes_into_the_own_models_and_not_into_the_package(tmp_path: Path, published: str) -> None:
    package, own = tmp_path / "package", tmp_path / "own"
    (package / "asr").mkdir(parents=True)
    (package / "asr" / "card.toml").write_text(card() + file(url=published))
    before = sorted(package.rglob("*"))
    (wanted,) = Catalogue([package, own]).cards["asr", "mine"].files
    assert fetch_one(wanted)
    assert sorted(package.rglob("*")) == before
    assert (own / "asr" / "files" / "mine-1.0.0" / "weights.bin").read_bytes() == b"weights"
    (again,) = Catalogue([package, own]).cards["asr", "mine"].files
    assert again.problem() == ""
    assert not fetch_one(again)


def test_what_lies_beside_its_card_already_is_used(tmp_path: Path, published: str) -> None:
    package = tmp_path / "package"
    (package / "asr").mkdir(parents=True)
    (package / "asr" / "card.toml").write_text(card() + file(url=published))
    assert fetch_one(read_card(package / "asr" / "card.toml").files[0])
    (wanted,) = Catalogue([package, tmp_path / "own"]).cards["asr", "mine"].files
    assert (wanted.problem(), fetch_one(wanted)) == ("", False)


def test_without_a_network_it_is_said_where_the_file_belongs_and_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "models" / "asr" / "card.toml"
    path.parent.mkdir(parents=True)
    path.write_text(card() + file(url="http://127.0.0.1:1/weights.bin"))
    with pytest.raises(FetchFailed, match=r"cannot be reached") as refused:
        fetch_one(read_card(path).files[0])
    assert str(path.parent / "files" / "mine-1.0.0") in refused.value.steps[0]
    assert "weights.bin" in refused.value.steps[1]
    assert [one.name for one in path.parent.iterdir()] == ["card.toml"]


def test_weights_can_be_kept_in_a_folder_that_servers_share(tmp_path: Path, published: str) -> None:
    own, shared = tmp_path / "own", tmp_path / "shared"
    own.mkdir()
    (own / "card.toml").write_text(card() + file(url=published))
    (wanted,) = Catalogue([own], shared).cards["asr", "mine"].files
    assert fetch_one(wanted)
    assert (shared / "mine-1.0.0" / "weights.bin").read_bytes() == b"weights"
    (other,) = Catalogue([own, tmp_path / "another"], shared).cards["asr", "mine"].files
    assert (other.problem(), fetch_one(other)) == ("", False)
