"""`speechpipe bench recognizer`: what it measures, where the figures go, and what it refuses."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import preloaded
from tests.patience import PATIENCE_S
from tests.sounds import SAMPLES

KEEPER = "The lighthouse keeper wrote a letter to his brother, every morning."
CLIPS = [
    {"audio": str(SAMPLES / "sentence_slt.flac"), "text": KEEPER},
    {"audio": str(SAMPLES / "sentence_awb.flac"), "text": "she bought fresh bread and a bottle of milk at the market"},
]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return preloaded.run(*arguments, timeout=PATIENCE_S, env={**os.environ, **environment})


def written(folder: Path, *rows: dict[str, Any]) -> str:
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def measured(state: Path) -> list[dict[str, Any]]:
    bundles = ("-b", "scripted", "-b", "default")
    options = (*bundles, "--live-seconds", "4.5", "--json", "--write")
    done = run("bench", "recognizer", written(state, *CLIPS), *options, SPEECHPIPE_STATE_DIR=str(state))
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def test_it_measures_each_bundle(measured: list[dict[str, Any]]) -> None:
    scripted, default = measured
    assert scripted["bundle"].startswith("scripted@")
    assert scripted["wer"] > 0.9, "it only pretends"
    assert default["wer"] < 0.5 < scripted["wer"]
    for one in measured:
        assert one["wer_low"] <= one["wer"] <= one["wer_high"]
        assert one["words"] == 23
        assert one["finals"] >= 1
        assert 0 < one["final_p50_ms"] <= one["final_p95_ms"]
        assert 0 < one["cpu"] < 10
        assert one["worker_rss_mb"] > 10
        assert one["load_s"] > 0
        assert len(one["hash"]) == 64
        assert one["manifests"][0].endswith("/manifest.jsonl")
        assert "cores" in one["machine"]
    assert default["cpu"] > scripted["cpu"]
    assert default["worker_rss_mb"] > scripted["worker_rss_mb"]


def test_the_figures_are_shown_with_the_bundle(state: Path, measured: list[dict[str, Any]]) -> None:
    mine = {"SPEECHPIPE_STATE_DIR": str(state)}
    shown = json.loads(run("bundles", "show", "default", **mine).stdout)
    assert shown["figures"] == measured[1]
    listed = json.loads(run("bundles", "list", "--json", **mine).stdout)
    of = {one["name"]: one["figures"] for one in listed}
    assert of["default"]["wer"] == measured[1]["wer"]
    assert "machine" not in of["default"], "clients get the same, and need not know the machine"
    text = run("bundles", "list", COLUMNS="300", **mine).stdout.decode()
    assert f"{measured[1]['wer']:.1%} wrong" in text


def test_the_bundle_stays_what_it_was(state: Path, measured: list[dict[str, Any]], tmp_path: Path) -> None:
    assert measured
    here = run("bundles", "verify", "default", SPEECHPIPE_STATE_DIR=str(state)).stdout
    elsewhere = run("bundles", "verify", "default", SPEECHPIPE_STATE_DIR=str(tmp_path)).stdout
    assert here == elsewhere
    added = run("bundles", "add", "--from", "default", "--name", "mine", SPEECHPIPE_STATE_DIR=str(state))
    assert added.returncode == 0, added.stderr
    assert json.loads(run("bundles", "show", "mine", SPEECHPIPE_STATE_DIR=str(state)).stdout)["figures"] is None


def test_people_get_a_table(tmp_path: Path) -> None:
    options = ("-b", "scripted", "--live-seconds", "0")
    done = run("bench", "recognizer", written(tmp_path, *CLIPS), *options, SPEECHPIPE_STATE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert "words wrong" in lines[0]
    assert lines[1].split()[0] == "scripted@1.0.0"
    assert f"{tmp_path.name}/manifest.jsonl: 23 words" in " ".join(lines[2:])
    assert not list(tmp_path.rglob("figures")), "nothing is kept without --write"


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "the manifest has no lines"),
        ([{"audio": "gone.flac", "text": "a"}], "line 1: there is no file"),
        ([CLIPS[0] | {"text": None}], "no line has a `text` with words"),
        ([CLIPS[0] | {"text": 3}], "`text` must be a string"),
        ([{"audio": "manifest.jsonl", "text": "a"}], "manifest.jsonl: "),
    ],
    ids=["empty", "missing file", "no text", "wrong text", "no audio"],
)
def test_a_manifest_that_cannot_be_used(tmp_path: Path, rows: list[dict[str, Any]], says: str) -> None:
    arguments = ("bench", "recognizer", written(tmp_path, *rows), "-b", "scripted", "--live-seconds", "0")
    done = run(*arguments, SPEECHPIPE_STATE_DIR=str(tmp_path))
    assert done.returncode != 0
    assert says in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_a_bundle_that_cannot_be_had(tmp_path: Path) -> None:
    mine = {"SPEECHPIPE_STATE_DIR": str(tmp_path), "SPEECHPIPE_WEIGHTS_DIR": str(tmp_path), "SPEECHPIPE_OFFLINE": "1"}
    manifest = written(tmp_path, *CLIPS)
    unknown = run("bench", "recognizer", manifest, "-b", "scripted", "-b", "whisper-9", **mine)
    assert unknown.returncode == 2
    assert b"'whisper-9' does not exist; known: accurate, default" in unknown.stderr
    absent = run("bench", "recognizer", manifest, "-b", "scripted", "-b", "multilingual", **mine)
    assert absent.returncode != 0
    assert absent.stdout == b"", "nothing is measured before all can be"
    assert b"whisper-base" in absent.stderr
