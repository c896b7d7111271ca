"""`speechpipe train` and `retrain` as a person uses them: real trainings in processes of their own, stopped, killed."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import shipped_models
from tests import preloaded
from tests.control.training.tones import WORDS, manifest
from tests.interfaces.cli.test_commands import run
from tests.interfaces.cli.test_rollout import served
from tests.patience import PATIENCE_S
from tests.sounds import SAMPLES


class Place:
    """A state directory with a recognizer of tones, hardly trained, in its bundle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = folder / "models"
        self.variables = {
            "SPEECHPIPE_STATE_DIR": str(folder / "state"),
            "SPEECHPIPE_MODELS_DIR": str(self.models),
            "SPEECHPIPE_BUNDLE": "tones",
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return run(*arguments, data=None, timeout_s=PATIENCE_S, **self.variables)

    def begin(self, *arguments: str) -> "subprocess.Popen[bytes]":
        variables = {**os.environ, **self.variables}
        return preloaded.start(*arguments, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def jobs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.run("retrain", "list", "--json").stdout)
        return found

    def progress(self, number: int) -> dict[str, Any]:
        path = self.folder / "state" / "retrain" / str(number) / "progress.json"
        try:
            found: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError):
            return {}
        return found


def until(what: Callable[[], Any]) -> Any:
    limit = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < limit
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Trained with the command, one epoch; stopped in the second, it says how to go on."""
    found = Place(tmp_path_factory.mktemp("tones"))
    source = manifest(found.folder / "learn", 40)
    test = manifest(found.folder / "test", 12)
    arguments = ["train", "ctc", str(source), "--test", str(test), "--closed", "--name", "tones", "--epochs", "1"]
    found.variables["SPEECHPIPE_BUNDLE"] = "scripted"
    done = found.run(*arguments, "--licence", "CC0-1.0")
    assert done.returncode == 0, done.stderr
    assert b"word error rate" in done.stdout
    shipped = (shipped_models() / "bundles" / "scripted.toml").read_text()
    (found.models / "tones.toml").write_text(shipped.replace("scripted", "tones"))
    found.variables["SPEECHPIPE_BUNDLE"] = "tones"
    return found


@pytest.mark.long
def test_training_writes_a_card_that_says_what_it_was_made_of(place: Place) -> None:
    catalogue = Catalogue([shipped_models(), place.models])
    bundle = catalogue.bundle("tones")
    assert catalogue.problems(bundle) == []
    card = (place.models / "asr" / "tones-1.0.0.toml").read_text()
    for said in ('licence = "CC0-1.0"', "examples = 40", "[metrics]", "wer = ", "seed = 0", 'speakers = "s0, s1'):
        assert said in card
    words = place.models / "asr" / "files" / "tones-1.0.0" / "words.txt"
    assert words.read_text().split() == sorted(WORDS)


@pytest.mark.long
def test_training_that_is_stopped_goes_on_with_the_same_command(place: Place) -> None:
    source = place.folder / "learn" / "manifest.jsonl"
    arguments = ["train", "ctc", str(source), "--name", "again", "--epochs", "3", "--work", str(place.folder / "work")]
    process = place.begin(*arguments)
    until((place.folder / "work" / "checkpoints" / "checkpoint.pt").exists)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, said
    assert b"run the same command" in said
    done = place.run(*arguments)
    assert done.returncode == 0, done.stderr
    assert b"epoch 1:" not in done.stderr, "what was done is not done again"
    assert b"epoch 3:" in done.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "10 examples are needed, 0"),
        ([{"audio": "ab-0.flac", "text": "ab"}], "10 examples are needed, 1"),
        ([{"audio": "gone.flac", "text": "ab"}] * 12, "12 no_audio"),
        ([{"audio": "ab-0.flac", "text": ""}] * 12, "12 no_text"),
        ([{"audio": "ab-0.flac", "text": "ärger 5"}] * 12, "12 alphabet"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_manifest_to_learn_nothing_from_is_refused(place: Place, rows: list[dict[str, str]], said: str) -> None:
    path = place.folder / "learn" / "bad.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = place.run("train", "ctc", str(path), "--name", "bad")
    assert done.returncode == 2
    assert said in done.stderr.decode()
    assert not (place.models / "asr" / "bad-1.0.0.toml").exists()


@pytest.mark.long
def test_retraining_survives_kills_and_what_is_no_better_stays_at_shadow(place: Place) -> None:
    served(place.folder / "state", "tones")
    source = str(place.folder / "learn" / "manifest.jsonl")
    process = place.begin("retrain", "ctc", "--from", source, "--reason", "more tones")
    until(lambda: "epoch 3" in place.progress(1).get("what", ""))
    (trainer,) = psutil.Process(process.pid).children(recursive=True)
    assert trainer.nice() == 19
    process.kill()  # without a word to its child
    process.communicate()
    until(lambda: not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE)  # it does not go on unwatched

    # Somebody stops it from elsewhere.
    deadline = time.monotonic() + PATIENCE_S
    while True:
        process = place.begin("retrain", "resume", "1")
        until(lambda: process.poll() is not None or psutil.Process(process.pid).children())  # noqa: B023
        if process.poll() is None:
            break
        assert b"is running" in process.communicate()[1], "its owner is thought alive for a while"
        assert time.monotonic() < deadline
    assert place.run("retrain", "stop", "1", "--reason", "too loud").returncode == 0
    out, said = process.communicate(timeout=PATIENCE_S)
    assert b"retrain resume 1" in said, (process.returncode, out, place.jobs())
    assert place.jobs()[0]["state"] == "stopped"

    done = place.run("retrain", "resume", "1")
    assert done.returncode == 0, done.stderr
    (job,) = place.jobs()
    assert (job["state"], job["candidate"]) == ("done", "tones@1.0.0-r1")
    assert job["judgement"] in ("no_better", "worse"), "an epoch and a little learn nothing"
    assert job["rollout"] == "held at shadow"
    assert job["figures"]["epochs"] == 20
    assert job["history"][0]["action"] == "ask"
    status = json.loads(place.run("rollout", "status", "--json").stdout)
    assert status["rollout"]["status"] == "paused"
    assert "no better" in status["rollout"]["reason"] or "worse" in status["rollout"]["reason"]
    assert status["aliases"] == {"champion": "tones@1.0.0", "shadow": "tones@1.0.0-r1"}

    # What was retrained is nobody's bundle until it is promoted.
    catalogue = Catalogue([shipped_models(), place.models])
    assert catalogue.bundle("tones").version == "1.0.0"
    assert catalogue.bundle("tones@1.0.0-r1").asr.version == "1.0.0-r1"
    assert catalogue.problems(catalogue.bundle("tones@1.0.0-r1")) == []


@pytest.mark.long
def test_what_cannot_be_retrained_is_said_and_nothing_is_written(place: Place) -> None:
    for arguments, said in (
        (["ctc", "-b", "embedded"], "pocketsphinx"),
        (["lm"], "expected pocketsphinx"),
        (["ctc", "--from", "/nowhere.jsonl"], "no such file"),
        (["ctc", "-b", "nothing"], "does not exist"),
        (["vad"], "no reviews"),
        (["resume", "77"], "no retraining 77"),
    ):
        done = place.run("retrain", *arguments)
        assert done.returncode != 0
        assert said in done.stderr.decode(), arguments


@pytest.mark.long
def test_a_language_model_is_adapted_to_texts_and_used(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.variables["SPEECHPIPE_BUNDLE"] = "embedded"
    rows = [json.loads(line) for line in (SAMPLES / "manifest.jsonl").read_text().splitlines()]
    clean = [row | {"audio": str(SAMPLES / row["audio"])} for row in rows if len(row["text"]) < 90][:3] * 4
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in clean))
    done = place.run("retrain", "lm", "--from", str(tmp_path / "m.jsonl"))
    assert done.returncode == 0, done.stderr
    (job,) = place.jobs()
    assert job["candidate"] == "embedded@1.0.0-r1"
    assert job["figures"]["wer"] <= job["figures"]["wer_before"]
    assert job["figures"]["perplexity_after"] < job["figures"]["perplexity_before"]
    said = place.run("transcribe", str(SAMPLES / "digits.flac"), "--bundle", "embedded@1.0.0-r1", "--workers", "1")
    assert said.stdout.decode().strip() == "one two three four five six seven eight nine zero", said.stderr


def test_a_vad_is_fitted_to_spans(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.variables["SPEECHPIPE_BUNDLE"] = "embedded"
    rows = [
        {"audio": str(SAMPLES / "digits.flac"), "speech": [[0.0, 4.0]]},
        {"audio": str(SAMPLES / "sentence_slt.flac"), "speech": [[0.2, 3.4]]},
        {"audio": str(SAMPLES / "noise_20db.flac"), "speech": [[0.5, 3.5]]},
        {"audio": str(SAMPLES / "silence.flac"), "speech": []},
    ]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = place.run("retrain", "vad", "--from", str(tmp_path / "m.jsonl"))
    assert done.returncode == 0, done.stderr
    (job,) = place.jobs()
    catalogue = Catalogue([shipped_models(), place.models])
    fitted, before = catalogue.bundle(job["candidate"]), catalogue.bundle("embedded")
    assert fitted.asr == before.asr
    assert 0.1 <= fitted.segmenter["padding_s"] <= 0.5
    assert {name for name, *_ in catalogue.differences(before, fitted)} <= {
        "version",
        *(f"vad.{name}" for name in ("threshold", "negative_threshold", "min_speech_s", "min_silence_s", "padding_s")),
        "vad.pre_roll_s",
    }


def test_a_policy_is_checked(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.variables["SPEECHPIPE_BUNDLE"] = "scripted"
    path = tmp_path / "policy.toml"
    path.write_text('mode = "auto"\n')
    assert b"least_reviews = 40" in place.run("retrain", "policy", str(path)).stdout
    path.write_text("least = 3\n")
    done = place.run("retrain", "policy", str(path))
    assert done.returncode == 2
    assert b"unknown key least" in done.stderr
