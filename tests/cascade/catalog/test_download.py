"""Weights whose publisher states no hash: fetched from a server, pinned by what came first, then used."""

import http.server
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.cascade.asr import tiny_models
from tests.interfaces.cli.test_commands import run
from tests.patience import PATIENCE_S
from tests.sounds import SAMPLES

BUNDLE = """
kind = "bundle"
name = "tiny"
version = "1.0.0"
description = "a tiny one"
languages = ["en"]
[vad]
card = "silero"
[asr]
card = "tiny"
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def published(tmp_path: Path) -> Iterator[str]:
    """A folder of weights behind a URL."""
    tiny_models.wav2vec2(tmp_path / "hub")
    handler = partial(Quiet, directory=str(tmp_path / "hub"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_weights_are_pulled_pinned_and_used(published: str, tmp_path: Path) -> None:
    models = tmp_path / "models"
    (models / "asr").mkdir(parents=True)
    (models / "tiny.toml").write_text(BUNDLE)
    files = "".join(
        f'[[files]]\nrole = "{role}"\npath = "{name}"\nurl = "{published}/{name}"\n'
        for role, name in (("weights", "weights.pth"), ("config", "config.json"))
    )
    (models / "asr" / "tiny.toml").write_text(
        'kind = "asr"\nname = "tiny"\nversion = "1.0.0"\nimplementation = "wav2vec2"\ndescription = "tiny"\n'
        f'source = "here"\nlicence = "CC0-1.0"\nlanguages = ["en"]\n{files}'
    )
    variables = {"SPEECHPIPE_MODELS_DIR": str(models), "SPEECHPIPE_STATE_DIR": str(tmp_path / "state")}

    def speechpipe(*arguments: str) -> tuple[int, str, str]:
        done = run(*arguments, data=None, timeout_s=PATIENCE_S, **variables)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    transcribe = ("transcribe", str(SAMPLES / "digits.flac"), "-b", "tiny", "--workers", "1", "--format", "json")
    code, _, said = speechpipe(*transcribe)
    assert (code, "models pull tiny" in said) == (2, True), said
    code, out, said = speechpipe("models", "pull", "tiny")
    assert (code, "2 files fetched" in out) == (0, True), said
    code, out, said = speechpipe(*transcribe)
    assert code == 0, said
    assert json.loads(out)["bundle"]["asr"]["name"] == "tiny"
    code, out, _ = speechpipe("bundles", "verify", "tiny")
    assert (code, "verified" in out) == (0, True)

    # What was fetched first is what it is: neither the file nor the publisher may change it.
    weights = models / "asr" / "files" / "tiny-1.0.0" / "weights.pth"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + b"x")
    code, out, _ = speechpipe("bundles", "verify", "tiny")
    assert (code, "its first download had" in out) == (1, True)
    (tmp_path / "hub" / "weights.pth").write_bytes(b"another model")
    code, _, said = speechpipe("models", "pull", "tiny")
    assert (code, "the download was deleted" in said) == (2, True)
    weights.write_bytes(whole)
    assert speechpipe("models", "pull", "tiny")[0] == 0, "what is there and right is not asked for again"


def test_nothing_is_pulled_that_nobody_serves(tmp_path: Path) -> None:
    done = run("models", "pull", data=None, timeout_s=PATIENCE_S, SPEECHPIPE_STATE_DIR=str(tmp_path))
    assert (done.returncode, b"nothing to fetch" in done.stdout) == (0, True), done.stderr
