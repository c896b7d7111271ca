"""`speechpipe automation` and `speechpipe review` on a store file: what an operator types at night."""

import json
import os
import pty
import wave
from pathlib import Path

import pytest

from speechpipe.control.review.operations import ReviewOperations
from speechpipe.control.review.task_repository import Reviewer
from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.storage.store import Store
from speechpipe.foundation.tenants import tenant_of
from tests import preloaded
from tests.control.review.tasks import said, task
from tests.databases import place_tables
from tests.interfaces.cli.test_rollout import speechpipe


@pytest.mark.long
def test_degrees_are_set_and_shown_with_their_history(tmp_path: Path) -> None:
    missing = speechpipe(tmp_path, "automation", "show")
    assert (missing.returncode, "there is no store" in missing.stderr) == (2, True)
    first = speechpipe(tmp_path, "automation", "set", "default", "assist", "-r", "the pilot", "--by", "ann", "--yes")
    assert (first.returncode, first.stdout) == (0, "default: assist\n")
    words = ["automation", "set", "acme", "partial", "--bound", "0.1", "--no-demote", "--json"]
    unknown = speechpipe(tmp_path, *words)
    assert (unknown.returncode, "no tenant of that name" in unknown.stderr) == (2, True)
    second = speechpipe(tmp_path, *words, "--force")
    assert json.loads(second.stdout)["demote"] is False
    shown = speechpipe(tmp_path, "automation", "show").stdout
    assert "acme: partial; error of unreviewed text at most 10.0%; 2.0% sampled at random" in shown
    assert "ann: default nothing -> assist (the pilot)" in shown
    found = json.loads(speechpipe(tmp_path, "automation", "show", "--json").stdout)
    assert [row["scope"] for row in found["scopes"]] == ["acme", "default"]
    for words in (["acme", "alone"], ["acme"], ["acme", "full", "--bound", "2"]):
        refused = speechpipe(tmp_path, "automation", "set", *words)
        assert (refused.returncode, bool(refused.stderr)) == (2, True)
    assert len(json.loads(speechpipe(tmp_path, "automation", "show", "--json").stdout)["history"]) == 2


def test_less_automation_for_everybody_takes_a_reason_and_a_confirmation(tmp_path: Path) -> None:
    lower = ["automation", "set", "default", "assist"]
    silent = speechpipe(tmp_path, *lower)
    assert (silent.returncode, "--reason" in silent.stderr) == (2, True)
    unconfirmed = speechpipe(tmp_path, *lower, "-r", "the pilot", given="y\n")  # no terminal: nobody has read it
    assert unconfirmed.returncode == 2
    assert "default goes from full to assist" in unconfirmed.stderr
    assert "(--yes)" in unconfirmed.stderr
    assert speechpipe(tmp_path, *lower, "--yes").returncode == 2, "--yes is no reason"
    assert json.loads(speechpipe(tmp_path, "automation", "show", "--json").stdout)["scopes"] == []
    assert speechpipe(tmp_path, *lower, "-r", "the pilot", "--yes").stdout == "default: assist\n"
    assert speechpipe(tmp_path, "automation", "set", "default", "full").returncode == 0, "more needs neither"


@pytest.mark.parametrize(("typed", "code", "scopes"), [(b"y\n", 0, 1), (b"n\n", 1, 0), (b"\n", 1, 0)])
def test_at_a_terminal_the_effect_is_stated_and_asked_for(tmp_path: Path, typed: bytes, code: int, scopes: int) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "SPEECHPIPE_STATE_DIR": str(tmp_path)}
    words = ["automation", "set", "default", "human_only", "-r", "a drill"]
    os.write(ours, typed)
    try:
        done = preloaded.run(*words, env=environment, stdin=theirs, text=True)
    finally:
        os.close(ours)
        os.close(theirs)
    assert "default goes from full to human_only" in done.stderr
    assert done.returncode == code
    shown = json.loads(speechpipe(tmp_path, "automation", "show", "--json").stdout)
    assert len(shown["scopes"]) == scopes


def test_the_tenant_of_a_key_is_printed_and_the_key_is_kept_nowhere(tmp_path: Path) -> None:
    store = Store(place_tables(tmp_path / "speechpipe.db"))
    store.open()
    store.append(Record("session", "s", "s", 1.0, "upload", "b", "1", "ok", tenant=tenant_of("k-u2")))
    store.close()
    printed = speechpipe(tmp_path, "automation", "tenant", given="k-u2\n")
    assert (printed.returncode, printed.stdout.strip()) == (0, tenant_of("k-u2"))
    assert speechpipe(tmp_path, "automation", "tenant", given="\n").returncode == 2
    done = speechpipe(tmp_path, "automation", "set", "k-u2", "assist")
    assert (done.returncode, done.stdout.strip()) == (0, f"{tenant_of('k-u2')}: assist")
    refused = speechpipe(tmp_path, "automation", "set", "k-u3", "assist")
    assert refused.returncode == 2
    assert "k-u3" not in refused.stdout + refused.stderr
    assert b"k-u2" not in (tmp_path / "speechpipe.db").read_bytes()
    assert "k-u2" not in speechpipe(tmp_path, "automation", "show", "--json").stdout


@pytest.fixture
def reviewed(tmp_path: Path) -> Path:
    store = Store(place_tables(tmp_path / "speechpipe.db"))
    operations = ReviewOperations(store)
    operations.add([task(1), task(2)], None)
    held = operations.queue.claim(Reviewer("ann"), lambda _: True)
    assert held is not None
    answer = [said(0, 0.9, "one too", "p0"), said(2, 2.9, "three four", "p2")]
    operations.submit(held.id, Reviewer("ann"), held.lease, answer, 3.0)
    store.close()
    (tmp_path / "reviews").mkdir()
    with wave.open(str(tmp_path / "reviews" / "t1.flac"), "wb") as sound:
        sound.setparams((1, 2, 16_000, 0, "NONE", ""))
    return tmp_path


def test_what_waits_and_what_people_say(reviewed: Path) -> None:
    listed = speechpipe(reviewed, "review", "list").stdout
    assert "1 open, 0 leased, 1 done" in listed
    assert "t2 degree 10.0 s upload default@1.0.0" in listed
    found = json.loads(speechpipe(reviewed, "review", "report", "--json").stdout)
    assert found["bundles"][0]["wer"]["value"] == 0.25
    text = speechpipe(reviewed, "review", "report").stdout
    assert "word error rate 25.0%" in text
    assert "too -> two: 1" in text
    health = json.loads(speechpipe(reviewed, "report", "--format", "json").stdout)
    assert health["people"]["bundles"][0]["wer"]["value"] == 0.25
    printed = speechpipe(reviewed, "report").stdout
    assert "1 sessions wait for a reviewer" in printed
    assert "default@1.0.0, reviewed: word error rate 25.0%" in printed


def test_out_with_its_audio_and_back(reviewed: Path) -> None:
    done = speechpipe(reviewed, "review", "export", "--audio", str(reviewed / "out"))
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"] for line in lines] == ["one too", "three four"]
    assert all(Path(line["audio_filepath"]).exists() for line in lines)
    studio = reviewed / "studio.json"
    where = ["-o", str(studio), "--audio", str(reviewed / "x")]
    out = speechpipe(reviewed, "review", "export", "--format", "label-studio", *where)
    assert "the audio of 1 reviews is not in " in out.stderr
    rows = json.loads(studio.read_text())
    for row in rows:
        row["annotations"] = row["annotations"] or [{"id": 1, "result": row["predictions"][0]["result"]}]
    studio.write_text(json.dumps(rows))
    back = speechpipe(reviewed, "review", "import", str(studio))
    assert back.returncode == 1, "one of them was answered already"
    assert json.loads(back.stdout)["counts"] == {"imported": 1, "repeated": 1}
    studio.write_text("{broken")
    assert speechpipe(reviewed, "review", "import", str(studio)).returncode == 2
