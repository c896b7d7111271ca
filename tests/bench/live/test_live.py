"""`speechpipe bench blame --live` from end to end: a real server, two faults, and what was said of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechpipe.types import SAMPLE_RATE_HZ
from tests.interfaces.cli.test_commands import run
from tests.patience import PATIENCE_S
from tests.sounds import sample

TABLE = """
[[fault]]
name = "quiet"
truth = "input"
severity = "severe"
where = "audio"
kind = "gain"
value = 30

[[fault]]
name = "silent recognizer"
truth = "asr"
severity = "severe"
where = "recognizer"
kind = "asr_empty"
value = 0.7
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Six recordings of a second, by three speakers: quick, because live audio takes as long as it lasts."""
    whole = sample("digits")
    parts = [
        whole[start : start + SAMPLE_RATE_HZ] for start in np.linspace(0, len(whole) - SAMPLE_RATE_HZ, 6).astype(int)
    ]
    lines = []
    for number, part in enumerate(parts):
        soundfile.write(tmp_path / f"{number}.wav", part, SAMPLE_RATE_HZ)
        lines.append(json.dumps({"audio": f"{number}.wav", "text": "one two", "speaker": f"speaker {number % 3}"}))
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.long
def test_the_server_is_asked_what_it_says_of_two_faults(manifest: Path, tmp_path: Path) -> None:
    table = tmp_path / "faults.toml"
    table.write_text(TABLE)
    pace = ["--rate", "6", "--live-share", "0.1", "--utterances", "45", "--between", "15", "--rest", "0"]
    quickly = ["--reference", "165", "--healthy", "1", "--probe-every", "3"]
    flags = ["--live", "--audio", str(manifest), "-b", "scripted", "--table", str(table), *pace, *quickly]
    done = run("bench", "blame", *flags, "--json", timeout_s=PATIENCE_S)
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert [fault["fault"]["name"] for fault in found["faults"]] == ["quiet", "silent recognizer"]
    for fault in found["faults"]:
        assert fault["felt"]["utterances"] >= 45
        assert fault["felt"]["failed"] == 0.0
    _, silent = found["faults"]
    assert silent["felt"]["without_text"] > 0.3 > silent["before"]["without_text"]
    assert silent["alarms"] or silent["open_before"]
    assert found["summary"]["healthy"]["stretches"] == 3
    assert found["summary"]["by_severity"]["severe"]["faults"] == 2


def test_an_unknown_fault_is_refused(manifest: Path) -> None:
    done = run("bench", "blame", "--live", "--audio", str(manifest), "--only", "nonsense")
    assert done.returncode == 2
    assert b"there is no fault 'nonsense'" in done.stderr


def test_a_server_of_others_gets_faults_from_outside_only(manifest: Path) -> None:
    done = run("bench", "blame", "--live", "--audio", str(manifest), "--only", "restart", "--url", "http://127.0.0.1:9")
    assert done.returncode == 2
    assert b"none of these faults" in done.stderr
