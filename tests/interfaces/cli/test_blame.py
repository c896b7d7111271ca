"""`speechpipe blame`, `replay` and `bench blame` as a person uses them."""

import json
import math
import re
import shutil
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speechpipe.foundation.storage.record import Measure, Record
from speechpipe.foundation.storage.store import Store
from speechpipe.monitor.watch import Watcher
from speechpipe.serving.health.operations import HealthOperations
from speechpipe.serving.telemetry.cascade_metrics import CASCADE
from tests.databases import place_tables
from tests.interfaces.cli.test_commands import run
from tests.patience import PATIENCE_S
from tests.sounds import SAMPLES


def sessions(count: int, start: float, *, seed: int, snr: float = 25.0, ratio: float = 0.6) -> list[Record]:
    """A session a second: the speech ratio follows the signal-to-noise ratio, the confidence both."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        quality = random.normal(snr, 3.0)
        spoken = ratio + 0.005 * (quality - 25) + random.normal(0, 0.05)
        sure = 0.7 + 0.3 * (spoken - 0.6) + 0.004 * (quality - 25) + random.normal(0, 0.05)
        common: dict[str, Any] = {
            "session_id": f"{start}-{number}",
            "at": start + number,
            "channel": "upload",
            "bundle": "default",
            "bundle_version": "1.0.0",
            "versions": {"vad": "silero@6", "asr": "pocketsphinx@5"},
        }
        heard: dict[str, Measure] = {"input.snr_db": quality, "input.rate_hz": 16000, "input.channels": 1}
        heard |= {"vad.speech_ratio": spoken, "vad.segments": 1, "vad.triggers_per_minute": random.normal(12, 1)}
        said: dict[str, Measure] = {"vad.start_s": 0.1, "vad.segment_s": 6 * spoken, "asr.confidence": sure}
        found += [
            Record("unit", f"u{start}-{number}", measures=said, **common),
            Record("session", f"s{start}-{number}", measures=heard, **common),
        ]
    return found


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Half an hour ago all was well, for the last five minutes VAD has dropped speech."""
    path = tmp_path_factory.mktemp("blame") / "records.db"
    opened = Store(place_tables(path))
    opened.open()
    now = time.time()
    for record in [*sessions(600, now - 1800, seed=1), *sessions(300, now - 300, seed=2, ratio=0.35)]:
        opened.append(record)
    opened.flush()
    operations = HealthOperations(CASCADE, opened)
    (proposal,) = operations.propose(now - 1800, now - 1100)
    operations.approve(proposal.id, "ann")
    opened.close()
    return str(path)


def test_blame_names_vad_with_evidence_and_what_would_refute_it(store: str) -> None:
    done = run("blame", "--store", store, "--since", "10m", "--format", "json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert (found["verdict"], found["decided"]) == ("vad", True)
    assert found["group"]["bundle"] == "default@1.0.0"
    assert {item["metric"] for item in found["evidence"]} >= {"vad.speech_ratio"}
    assert found["refuted_if"]
    said = run("blame", "--store", store, "--since", "10m").stdout.decode()
    assert "vad" in said.splitlines()[0]
    assert "share of audio that is speech fell" in said


def test_blame_of_a_window_takes_its_begin_for_the_onset(store: str) -> None:
    well = run("blame", "--store", store, "--window", "29m", "20m", "--format", "json")
    assert json.loads(well.stdout)[0]["verdict"] == "none"
    wrong = run("blame", "--store", store, "--window", "5m", "0.01m", "--format", "json")
    assert json.loads(wrong.stdout)[0]["verdict"] == "vad"


def test_blame_draws_the_cascade(store: str, tmp_path: Path) -> None:
    done = run("blame", "--store", store, "--since", "10m", "--format", "svg", "-o", str(tmp_path / "blame.svg"))
    assert done.returncode == 0, done.stderr
    assert "blamed" in (tmp_path / "blame.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--since", "1m", "--bundle", "other"], "no traffic"),
        (["--window", "1m", "2m"], "must end after it begins"),
        (["--reference", "9"], "no reference 9"),
        (["--since", "yesterday"], "a duration"),
    ],
    ids=str,
)
def test_what_cannot_be_blamed_is_said(store: str, arguments: list[str], said: str) -> None:
    done = run("blame", "--store", store, *arguments)
    assert done.returncode == 2
    assert said in done.stderr.decode()


def test_a_report_from_a_store_shows_no_verdict_that_nobody_gave(store: str) -> None:
    data = json.loads(run("report", "--store", store, "--last", "1h", "--format", "json").stdout)
    assert data["blame"] == []


def test_replay_says_what_each_stage_did(tmp_path: Path) -> None:
    flags = ["--bundle", "scripted", "--workers", "1", "--reference", str(SAMPLES / "manifest.jsonl")]
    flags += ["--incident", str(SAMPLES / "manifest.jsonl"), "--most", "4", "--json"]
    flags += ["--set", "asr.empty_below_level=2.0"]
    done = run("replay", *flags)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    shares = {share["player"]: share["value"] for share in found["shares"]}
    assert shares["input"] == shares["vad"] == 0.0
    assert sum(shares.values()) == pytest.approx(found["now"] - found["then"])
    nothing = run("replay", "--bundle", "scripted", "--against-record", SPEECHPIPE_STATE_DIR=str(tmp_path))
    assert nothing.returncode == 2
    assert "KEEP_AUDIO_HOURS" in nothing.stderr.decode()


@pytest.mark.long
def test_the_fault_benchmark_prints_one_object_and_a_picture(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    names = ("sentence_slt", "sentence_awb")
    lines = [json.loads(line) for line in (SAMPLES / "manifest.jsonl").read_text().splitlines()]
    kept = [line for line in lines if line["audio"].removesuffix(".flac") in names]
    manifest.write_text("".join(json.dumps({**line, "audio": str(SAMPLES / line["audio"])}) + "\n" for line in kept))
    flags = ["--audio", str(manifest), "--quick", "--seeds", "1", "--audio-seconds", "8"]
    done = run("bench", "blame", *flags, "--json", "--picture", str(tmp_path / "c.svg"), timeout_s=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name in ("top1", "top2", "specificity", "delay_utterances", "false_alarms_per_day", "baselines", "episodes"):
        assert name in found
    assert set(found["top1"]) == {"mild", "medium", "severe"}
    assert found["top1"]["severe"]["value"] > found["baselines"]["random"]["top1"]["severe"]["value"]
    assert found["top1"]["severe"]["value"] >= 0.7
    assert set(found["baselines"]["largest z"]) == {"top1", "top2", "specificity"}
    assert (tmp_path / "c.svg").read_text().startswith("<svg")


def test_a_manifest_that_names_nothing_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "manifest.jsonl"
    empty.write_text('{"audio": "missing.flac"}\n')
    done = run("bench", "blame", "--audio", str(empty))
    assert done.returncode == 2
    assert "line 1" in done.stderr.decode()


def test_a_window_without_a_whole_minute_has_its_traffic(store: str) -> None:
    # 48 seconds that begin and end in mid-minute, while there was traffic
    with closing(Store(f"sqlite:///{store}")) as opened:
        last = max(record.at for record in opened.read("unit"))
    begin = math.floor((last - 120) / 60) * 60 + 6.5
    times = [datetime.fromtimestamp(at, UTC).isoformat() for at in (begin, begin + 48)]
    done = run("blame", "--store", store, "--window", *times, "--format", "json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert found["verdict"]
    operations = HealthOperations(CASCADE, Store(f"sqlite:///{store}"))
    (proposal,) = [one for one in operations.propose(begin, begin + 48) if any(one.group)]
    assert proposal.units == 48
    (whole,) = [one for one in operations.propose(begin - 1000, begin + 48) if any(one.group)]
    assert whole.units == sum(begin - 1000 <= record.at < begin + 48 for record in records_of(store))


def records_of(store: str) -> list[Record]:
    return list(Store(f"sqlite:///{store}").read("unit"))


def test_metrics_that_are_switched_off_are_off_for_blame(store: str) -> None:
    off = '["vad.speech_ratio"]'
    done = run("blame", "--store", store, "--since", "10m", "--format", "json", SPEECHPIPE_METRICS_OFF=off)
    assert done.returncode == 0, done.stderr
    assert "vad.speech_ratio" not in done.stdout.decode()
    wrong = run("blame", "--store", store, SPEECHPIPE_METRICS_OFF='["vad.nothing"]')
    assert wrong.returncode == 2
    assert b"vad.nothing" in wrong.stderr
    assert b"Traceback" not in wrong.stderr


def test_it_is_said_how_far_a_group_is_on_its_way_to_a_reference(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    opened = Store(place_tables(path))
    opened.open()
    for record in sessions(372, time.time() - 400, seed=1):
        opened.append(record)
    opened.flush()
    Watcher(CASCADE, opened).tick(time.time())
    opened.close()
    line = "consumer upload default@1.0.0 champion yet: 372 of 500 utterances"
    assert line in run("reference", "show", "--store", str(path)).stdout.decode()
    assert line in run("report", "--store", str(path)).stdout.decode()


def test_the_traffic_of_one_tenant_is_judged_by_the_reference_of_its_group(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    opened = Store(place_tables(path))
    opened.open()
    now = time.time()
    faulty = [replace(record, tenant="loud") for record in sessions(100, now - 100, seed=2, ratio=0.2)]
    others = [replace(record, tenant="quiet") for record in sessions(600, now - 700, seed=3)]
    for record in sorted([*sessions(600, now - 2400, seed=1), *others, *faulty], key=lambda record: record.at):
        opened.append(record)
    opened.flush()
    operations = HealthOperations(CASCADE, opened)
    (proposal,) = operations.propose(now - 2400, now - 1700)
    operations.approve(proposal.id, "ann")
    opened.close()
    for tenant, label in (("loud", "vad"), ("quiet", "none")):
        done = run("blame", "--store", str(path), "--since", "15m", "--tenant", tenant, "--format", "json")
        (found,) = json.loads(done.stdout)
        assert found["verdict"] == label, found["reason"]
    done = run("blame", "--store", str(path), "--since", "15m", "--tenant", "nobody-here")
    assert done.returncode == 2
    assert b"no traffic in that time of tenant 'nobody-here'" in done.stderr


def test_a_reference_is_moved_to_the_next_bundle(store: str, tmp_path: Path) -> None:
    store = str(shutil.copy(store, tmp_path / "copy.db"))
    done = run("reference", "move", "1", "next@2.0.0", "--store", store)
    assert done.returncode == 0, done.stderr
    opened = Store(f"sqlite:///{store}")
    with closing(opened):
        old, *_, new = HealthOperations(CASCADE, opened).references()  # another test may have proposed one
        assert (old.status, new.status, new.group.bundle) == ("pinned", "pinned", "next@2.0.0")
        assert new.window.units == old.window.units
        opened.open()
        now = time.time()
        for record in sessions(60, now - 60, seed=9, ratio=0.2):
            opened.append(replace(record, bundle="next", bundle_version="2.0.0"))
        opened.flush()
    done = run("blame", "--store", store, "--since", "2m", "--bundle", "next", "--format", "json")
    (found,) = json.loads(done.stdout)
    assert (found["verdict"], found["decided"]) == ("vad", True), "its records need not have come from the new bundle"
    for arguments in (["1", "next"], ["99", "next@3.0.0"]):
        assert run("reference", "move", *arguments, "--store", store).returncode == 2


def test_a_report_shows_incidents_and_what_it_says_to_type_can_be_typed(store: str, tmp_path: Path) -> None:
    path = str(shutil.copy(store, tmp_path / "copy.db"))
    opened = Store(f"sqlite:///{path}")
    with closing(opened):
        watcher = Watcher(CASCADE, opened)
        watcher.tick(time.time())
    done = run("report", "--store", path, "--last", "1h")
    text = done.stdout.decode()
    (line,) = re.findall(r"look: speechpipe (blame --since \S+?);", text)
    assert re.search(r"incident \w{12} firing \((page|investigate)\), \d+ alarms? since", text)
    assert "blame: vad" in text
    asked = run(*line.split(), "--store", path)
    assert asked.returncode == 0, asked.stderr
    assert b": vad" in asked.stdout


def test_an_incident_is_acknowledged_by_its_id_and_says_whom_it_concerns(store: str, tmp_path: Path) -> None:
    path = str(shutil.copy(store, tmp_path / "copy.db"))
    opened = Store(f"sqlite:///{path}")
    with closing(opened):
        Watcher(CASCADE, opened).tick(time.time())
    text = run("alarms", "list", "--store", path).stdout.decode()
    incident = re.findall(r"incident (\w{12}) firing", text)[0]
    assert re.search(r"\d+ of \d+ sessions", text)
    assert "acknowledged" not in text
    done = run("alarms", "acknowledge", incident, "--by", "ann", "--store", path)
    assert done.returncode == 0, done.stderr
    assert b"acknowledged by ann: " in done.stdout
    (found,) = (
        one
        for one in json.loads(run("alarms", "list", "--json", "--store", path).stdout)["incidents"]
        if one["id"] == incident
    )
    assert found["acknowledged"]
    assert "acknowledged by ann" in run("alarms", "list", "--store", path).stdout.decode()
    refused = run("alarms", "acknowledge", "nothing", "--store", path)
    assert refused.returncode == 2
    assert b"there is no open alarm or incident" in refused.stderr
