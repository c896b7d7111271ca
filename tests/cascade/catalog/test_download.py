"""Weights as users get them: by `models pull`, at first use, at the start of a server."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.cascade.asr import tiny_models
from tests.cascade.catalog.weight_sources import REVISION, Site, pip_settings, serving, wheel
from tests.conftest import OWN_WEIGHTS, StartServer
from tests.interfaces.cli.test_commands import run
from tests.patience import PATIENCE_S, until
from tests.sounds import SAMPLES

BUNDLE = """
kind = "bundle"
name = "tiniest"
version = "1.0.0"
description = "a tiny one"
languages = ["en"]
[vad]
card = "silero"
[asr]
card = "smallest"
"""

CARD = """
kind = "asr"
name = "smallest"
version = "1.0.0"
implementation = "wav2vec2"
description = "tiny"
source = "here"
licence = "CC0-1.0"
languages = ["en"]
"""

TRANSCRIBE = ("transcribe", str(SAMPLES / "digits.flac"), "-b", "tiniest", "--workers", "1", "--format", "json")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass
class Place:
    """A user's models and state, and a hub."""

    folder: Path
    hub: Site
    files: dict[str, Path]  # role to file

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def weights(self) -> Path:
        """Where what is fetched belongs."""
        return self.models / "asr" / "files" / "smallest-1.0.0"

    @property
    def variables(self) -> dict[str, str]:
        return OWN_WEIGHTS | {
            "SPEECHPIPE_MODELS_DIR": str(self.models),
            "SPEECHPIPE_STATE_DIR": str(self.folder / "state"),
            "HF_ENDPOINT": self.hub.url,
        }

    def add_cards(self, form: str) -> None:
        """Write the cards; `form` is the text of a file's sources, with the file's `{name}` and `{sha256}`."""
        self.models.mkdir()
        (self.models / "bundle.toml").write_text(BUNDLE)
        (self.models / "asr").mkdir()
        entries = "".join(
            f'[[files]]\nrole = "{role}"\npath = "{path.name}"\n'
            + form.format(name=path.name, sha256=sha256(path), size=path.stat().st_size)
            for role, path in self.files.items()
        )
        (self.models / "asr" / "tiny.toml").write_text(CARD + entries)

    def speechpipe(self, *arguments: str, **more: str) -> tuple[int, str, str]:
        done = run(*arguments, data=None, timeout_s=PATIENCE_S, **(self.variables | more))
        return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with serving() as hub:
        yield Place(tmp_path, hub, tiny_models.wav2vec2(tmp_path / "published"))


SOURCES = (
    'sha256 = "{sha256}"\nsize = {size}\nsources = [\n'
    f'  {{{{ hub = "owner/tiny", revision = "{REVISION}" }}}},\n'
    '  {{ wheel = "tiny-weights==1.0.0", path = "tiny_weights/{name}" }},\n]\n'
)


def on_the_hub(place: Place) -> None:
    place.hub.files = {
        f"/owner/tiny/resolve/{REVISION}/{path.name}": path.read_bytes() for path in place.files.values()
    }


@pytest.mark.long
def test_weights_without_a_hash_are_pulled_pinned_and_used(place: Place) -> None:
    place.hub.files = {f"/{path.name}": path.read_bytes() for path in place.files.values()}
    place.add_cards(f'url = "{place.hub.url}/{{name}}"\n')
    code, out, said = place.speechpipe(*TRANSCRIBE, SPEECHPIPE_MODELS_PULL="false")
    assert (code, out, "models pull smallest" in said) == (2, "", True), said
    assert f"put these files into {place.weights}" in said
    code, out, said = place.speechpipe("models", "pull", "smallest")
    assert (code, "2 files fetched" in out) == (0, True), said
    code, out, said = place.speechpipe(*TRANSCRIBE)
    assert (code, said) == (0, "")
    assert json.loads(out)["bundle"]["asr"]["name"] == "smallest"
    code, out, _ = place.speechpipe("bundles", "verify", "tiniest")
    assert (code, "verified" in out) == (0, True)

    # What was fetched first is what it is: neither the file nor the publisher may change it.
    weights = place.weights / "weights.pth"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + b"x")
    code, out, _ = place.speechpipe("bundles", "verify", "tiniest")
    assert (code, "its first download had" in out) == (1, True)
    place.hub.files["/weights.pth"] = b"another model"
    code, _, said = place.speechpipe("models", "pull", "smallest")
    assert (code, "the download was deleted" in said) == (2, True)
    weights.write_bytes(whole)
    assert place.speechpipe("models", "pull", "smallest")[0] == 0, "what is there and right is not asked for again"


def test_first_use_fetches_what_is_missing_and_says_so_beside_the_result(place: Place) -> None:
    place.add_cards(SOURCES)
    index = place.folder / "index"
    wheel(index, "tiny-weights", {f"tiny_weights/{path.name}": path.read_bytes() for path in place.files.values()})
    code, out, said = place.speechpipe(*TRANSCRIBE, **pip_settings(index))
    assert code == 0, said
    assert json.loads(out)["bundle"]["asr"]["name"] == "smallest"
    first, second, third = said.splitlines()
    assert first.startswith("speechpipe: smallest 1.0.0: fetching ")
    assert first.endswith(f" into {place.weights}")
    assert "from wheel tiny-weights==1.0.0; not from hub owner/tiny: the server answered 404" in second
    assert third.endswith("from wheel tiny-weights==1.0.0")
    code, out, said = place.speechpipe(*TRANSCRIBE, SPEECHPIPE_OFFLINE="1")
    assert (code, said) == (0, ""), "what is there needs no network"


def test_offline_the_error_says_what_to_do(place: Place) -> None:
    on_the_hub(place)
    place.add_cards(SOURCES)
    code, out, said = place.speechpipe(*TRANSCRIBE, SPEECHPIPE_OFFLINE="1")
    assert (code, out, place.hub.asked) == (1, "", [])
    assert said.count("SPEECHPIPE_OFFLINE forbids the network") == 2
    assert "fetching" not in said, "it says that it does what it may not do"
    for path in place.files.values():
        assert re.search(rf"{path.name} .*sha256 {sha256(path)}", said)
    mirror = place.folder / "mirror" / "smallest-1.0.0"
    mirror.mkdir(parents=True)
    for path in place.files.values():
        (mirror / path.name).write_bytes(path.read_bytes())
    variables = {"SPEECHPIPE_OFFLINE": "1", "SPEECHPIPE_MODELS_MIRROR": str(mirror.parent)}
    code, _, said = place.speechpipe(*TRANSCRIBE, **variables)
    assert code == 0, said


def test_a_pull_by_the_name_of_a_bundle_goes_where_the_settings_say(place: Place) -> None:
    on_the_hub(place)
    place.add_cards(SOURCES)
    code, out, said = place.speechpipe("models", "list", COLUMNS="200")
    assert re.search(r"smallest .*CC0-1.0 .*KiB +not fetched +hub, wheel", out), out
    shared = place.folder / "shared"
    code, out, said = place.speechpipe("models", "pull", "tiniest", "digits", SPEECHPIPE_WEIGHTS_DIR=str(shared))
    assert (code, "2 files fetched" in out) == (0, True), said
    assert {path.name for path in (shared / "smallest-1.0.0").iterdir()} == {"weights.pth", "config.json"}
    code, out, said = place.speechpipe("models", "list", COLUMNS="200", SPEECHPIPE_WEIGHTS_DIR=str(shared))
    assert re.search(r"smallest .*CC0-1.0 .*KiB +2 verified +hub, wheel", out), out
    code, _, said = place.speechpipe("models", "pull", "tinier")
    assert (code, "there is no model or bundle 'tinier'" in said) == (2, True)


def test_the_hub_is_named_in_the_error_of_a_wrong_address(place: Place) -> None:
    place.add_cards(SOURCES)
    code, _, said = place.speechpipe("models", "pull", "smallest", HF_ENDPOINT="hub.example")
    assert (code, "HF_ENDPOINT" in said) == (2, True), said


def test_nothing_is_pulled_for_a_bundle_that_needs_nothing(tmp_path: Path) -> None:
    variables = {"SPEECHPIPE_STATE_DIR": str(tmp_path), "SPEECHPIPE_BUNDLE": "embedded"}
    done = run("models", "pull", data=None, timeout_s=PATIENCE_S, **variables)
    assert (done.returncode, b"nothing to fetch" in done.stdout) == (0, True), done.stderr


# ---- servers ----


def test_a_server_fetches_before_it_is_ready(place: Place, start_server: StartServer) -> None:
    on_the_hub(place)
    place.add_cards(SOURCES)
    names = {
        name.removeprefix("SPEECHPIPE_").lower(): value
        for name, value in place.variables.items()
        if name.startswith("SPEECHPIPE_") and name != "SPEECHPIPE_STATE_DIR"
    }
    server = start_server(
        bundle="tiniest", workers="1", live_workers="1", variables={"HF_ENDPOINT": place.hub.url}, **names
    )
    said = [line for line in server.log if "smallest 1.0.0: " in line]
    assert len(said) == 3, "one line for the card, one for each file"
    assert "ready" in server.log[-1]
    assert server.metric("speechpipe_weights_fetches_total", source="hub", outcome="fetched") == 2
    assert httpx.get(f"{server.url}/readyz").status_code == 200


def test_a_server_without_weights_ends_with_one_line(place: Place, start_server: StartServer) -> None:
    place.add_cards(SOURCES)
    server = start_server(
        wait=False, bundle="tiniest", workers="1", models_dir=str(place.models), weights_dir="", offline="1"
    )
    assert server.process.wait(PATIENCE_S) == 2
    until(lambda: any("could not start" in line for line in server.log))
    (said,) = [line for line in server.log if "could not start" in line]
    assert "no source has smallest 1.0.0: " in said
    assert not any("Traceback" in line for line in server.log)
