"""The command line as a person uses it: processes of their own, real exit codes, output that can be piped."""

import json
import os
import pty
import re
import select
import shutil
import socket
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from speechpipe.cascade.evaluation.scores import rate, word_errors
from speechpipe.foundation.registry import Registry
from speechpipe.interfaces.cli import app
from tests import preloaded
from tests.containers import Track, written
from tests.patience import PATIENCE_S
from tests.sounds import EXPECTED, SAMPLES, SHARED, plain, sample


def run(
    *arguments: str, data: bytes | None = None, timeout_s: float = PATIENCE_S, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    return preloaded.run(*arguments, input=data, timeout=timeout_s, env={**os.environ, **environment})


@pytest.mark.parametrize(
    "names", [["digits", "silence", "noise"], pytest.param(list(EXPECTED), marks=pytest.mark.long)], ids=["few", "all"]
)
@pytest.mark.parametrize("bundle", ["default", "embedded"])
def test_samples_are_transcribed_out_of_the_box(bundle: str, names: list[str]) -> None:
    """Each clip: its text within its tolerance, no text from silence and noise, the books balanced."""
    files = [str(SAMPLES / EXPECTED[name]["file"]) for name in names]
    chosen = () if bundle == "default" else ("--bundle", bundle)
    done = run("transcribe", *files, *chosen, "--format", "json", "--workers", "1" if len(names) < 5 else "2")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["file"] for line in lines] == files, "in the order they were given"
    for line, name in zip(lines, names, strict=True):
        expected = EXPECTED[name]
        error = rate([word_errors(expected["text"], line["text"], by=plain)])
        assert line["bundle"]["name"] == bundle
        assert (line["text"] == "") if error is None else (error.value <= expected["max_wer"]), (
            f"{name}: {line['text']}"
        )
        assert line["duration"] == pytest.approx(expected["duration_s"], abs=0.01)
        accounting = line["accounting"]
        assert accounting["received"] == accounting["in_utterances"] + accounting["dropped_by_vad"]
        assert {"text", "segments", "bundle", "accounting", "warnings", "duration"} <= set(line)
        for segment in line["segments"]:
            assert {"start", "end", "text", "words", "confidence", "null_cause"} <= set(segment)
            said = [segment, *segment["words"]] if segment["text"] else []
            assert all((one["calibrated_confidence"] is None) == (bundle == "embedded") for one in said)
            assert all(0.0 < (one["calibrated_confidence"] or 0.5) < 1.0 for one in said)


def test_an_audio_track_can_be_chosen(tmp_path: Path) -> None:
    speech = sample("sentence_slt")
    film = tmp_path / "film.mkv"
    film.write_bytes(written("matroska", "aac", Track(0 * speech), Track(speech)))
    first = run("transcribe", str(film), "--bundle", "scripted")
    assert first.returncode == 0
    assert first.stdout.strip() == b""
    assert b"2 audio tracks; track 0" in first.stderr
    second = run("transcribe", str(film), "--bundle", "scripted", "--track", "1")
    assert second.stdout.strip()
    assert second.stderr == b""
    third = run("transcribe", str(film), "--bundle", "scripted", "--track", "2")
    assert third.returncode == 1
    assert b"track 2 does not exist; the file has 2" in third.stderr


def test_one_bad_file_does_not_stop_the_rest(tmp_path: Path) -> None:
    text = tmp_path / "text.wav"
    text.write_text("not audio")
    good = str(SAMPLES / "digits.flac")
    done = run("transcribe", good, str(text), "/nowhere.wav", str(tmp_path), good, "--bundle", "scripted", "-f", "json")
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert ["error" in line for line in lines] == [False, True, True, True, False]
    assert lines[1]["error"]["cause"] == "undecodable_audio"
    assert b"/nowhere.wav: No such file" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["transcribe"],
        ["transcribe", "a.wav", "--bundle", "nope"],
        ["transcribe", "a.wav", "--set", "vad.threshold=7"],
        ["transcribe", "a.wav", "--set", "vad.nonsense=1"],
        ["transcribe", "a.wav", "--set", "threshold"],
        ["transcribe", "a.wav", "--format", "docx"],
        ["transcribe", "a.wav", "--asr", "nope"],
        ["transcribe", "a.wav", "--channel", "0", "--multichannel"],
        ["bundles", "show", "nope"],
        ["evaluate", "/nowhere.jsonl"],
        ["serve", "--port", "99999999"],
        ["no-such-command"],
    ],
    ids=" ".join,
)
def test_usage_errors_are_2_and_say_what_is_wrong(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr
    assert b"Traceback" not in done.stderr


def test_a_wrong_environment_is_named() -> None:
    done = run("transcribe", "a.wav", SPEECHPIPE_WORKERS="many")
    assert done.returncode == 2
    assert b"SPEECHPIPE_WORKERS" in done.stderr


def test_standard_input_settings_and_output_files(tmp_path: Path) -> None:
    data = (SAMPLES / "two_speakers.flac").read_bytes()
    done = run("transcribe", "-", "-b", "scripted", "--set", "vad.threshold=0.4", "-f", "verbose_json", data=data)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["speechpipe"]["bundle"]["vad"]["parameters"]["threshold"] == 0.4
    assert len(document["segments"]) == 2
    assert done.stderr == b"", "no progress bar in a pipe"

    copy = tmp_path / "other" / "digits.flac"
    copy.parent.mkdir()
    shutil.copy(SAMPLES / "digits.flac", copy)
    out = tmp_path / "out"
    inputs = [str(SAMPLES / "digits.flac"), str(copy), str(SAMPLES / "silence.flac")]
    done = run("transcribe", *inputs, "-b", "scripted", "-f", "srt", "--output", str(out))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["digits-2.srt", "digits.srt", "silence.srt"]
    assert (out / "digits.srt").read_text() == (out / "digits-2.srt").read_text()


def test_channels_on_the_command_line() -> None:
    stereo = str(SAMPLES / "stereo.flac")
    both = json.loads(run("transcribe", stereo, "-b", "scripted", "-f", "json", "--multichannel").stdout)
    right = json.loads(run("transcribe", stereo, "-b", "scripted", "-f", "json", "--channel", "1").stdout)
    assert [segment["channel"] for segment in both["segments"]] == [0, 1]
    assert both["segments"][1]["text"] == right["text"]


@pytest.mark.parametrize("command", ["transcribe", "evaluate"])
def test_a_terminal_sees_a_progress_bar(command: str, tmp_path: Path) -> None:
    file = SAMPLES / "long_pauses.flac"
    if command == "evaluate":
        row = json.dumps({"audio": str(file), **_labels("long_pauses")})
        file = tmp_path / "manifest.jsonl"
        file.write_text(row + "\n")
    ours, theirs = pty.openpty()
    process = preloaded.start(
        *(command, str(file), "-b", "scripted", "--workers", "1"),
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    )
    os.close(theirs)
    seen = b""
    while select.select([ours], [], [], PATIENCE_S)[0]:
        try:
            seen += os.read(ours, 65536)
        except OSError:  # the terminal's other end closed
            break
    os.close(ours)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert b"long_pauses.flac" in seen
    assert output.strip()
    assert b"\x1b" not in output, "the text itself is clean"


def test_a_reader_that_leaves_is_no_error() -> None:
    files = [str(SAMPLES / "digits.flac")] * 30
    process = preloaded.start(
        *("transcribe", *files, "-b", "scripted", "-f", "verbose_json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait(PATIENCE_S)


@pytest.mark.long
def test_evaluate_on_the_samples(tmp_path: Path) -> None:
    names = ("digits", "two_speakers", "silence")
    manifest = tmp_path / "manifest.jsonl"
    rows = [{"audio": str(SAMPLES / f"{name}.flac"), **_labels(name)} for name in names]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run("evaluate", str(manifest), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["files"] == 3
    assert report["wer"]["low"] <= report["wer"]["value"] <= report["wer"]["high"]
    assert report["wer"]["value"] < 0.4
    assert abs(report["wer"]["value"] - report["wer_oracle_segments"]["value"]) < 0.25
    assert report["vad"]["recall"] > 0.97
    assert report["vad"]["false_alarm_rate"] < 0.15
    assert report["vad"]["boundary_error_s"] < 0.15
    assert report["null_share"] == 0
    assert b"WER, oracle segments" in run("evaluate", str(manifest), "-b", "scripted").stdout


def _labels(name: str) -> dict[str, Any]:
    return {"text": EXPECTED[name]["text"], "speech": EXPECTED[name]["speech"]}


def test_evaluate_prints_the_wer_before_and_after_the_normalizer(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(json.dumps({"audio": str(SAMPLES / "digits.flac"), "text": "twenty-one"}) + "\n")
    for options, name in (((), "basic"), (("--normalizer", "english"), "english"), (("--normalizer", "none"), "none")):
        report = json.loads(run("evaluate", str(manifest), "-b", "scripted", "--json", *options).stdout)
        assert report["normalizer"] == name
        assert report["wer"]["value"] > 0
        assert (report["wer_normalized"] is None) == (name == "none")
    text = run("evaluate", str(manifest), "-b", "scripted").stdout
    assert b"WER, real VAD, basic" in text
    assert run("evaluate", str(manifest), "-b", "scripted", "--normalizer", "french").returncode == 2


def test_evaluate_counts_a_file_that_fails(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(json.dumps({"audio": "missing.flac", "text": "x"}) + "\n")
    assert run("evaluate", str(manifest), "-b", "scripted").returncode == 1
    manifest.write_text("{broken\n")
    done = run("evaluate", str(manifest))
    assert done.returncode == 2
    assert b"manifest.jsonl, line 1" in done.stderr


@pytest.mark.long
@pytest.mark.shared_data
def test_read_speech_is_recognised() -> None:
    done = run("evaluate", str(SHARED / "read" / "manifest.jsonl"), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["wer"]["value"] < 0.42
    assert report["wer"]["value"] <= report["wer_oracle_segments"]["value"] + 0.05


@pytest.mark.shared_data
def test_silero_on_real_meetings_finds_speech_and_little_else() -> None:
    done = run("evaluate", str(SHARED / "meetings" / "manifest.jsonl"), "-b", "scripted", "--json")
    vad = json.loads(done.stdout)["vad"]
    assert vad["recall"] > 0.75
    assert vad["false_alarm_rate"] < 0.25


def test_bundles() -> None:
    listed = run("bundles", "list", "--json")
    assert {"default", "webrtc", "fast"} <= {bundle["name"] for bundle in json.loads(listed.stdout)}
    assert b"default" in run("bundles", "list").stdout
    shown = run("bundles", "show", "default")
    assert json.loads(shown.stdout)["files"] == "verified"
    assert b"speechpipe 0." in run("--version").stdout


@pytest.mark.long
def test_doctor_finds_everything_in_order() -> None:
    healthy = run("doctor")
    assert healthy.returncode == 0, healthy.stdout
    assert b"default        files verified" in healthy.stdout
    assert b"cannot load" not in healthy.stdout
    assert b"accounting balanced" in healthy.stdout


def test_doctor_says_what_cannot_be_loaded_and_whether_the_chosen_bundle_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In this process, with a table of recognizers that need no large library."""
    table = {"scripted": "speechpipe.cascade.asr.scripted:ScriptedRecognizer", "gone": "speechpipe.nowhere:Gone"}
    monkeypatch.setattr("speechpipe.cascade.asr.RECOGNIZERS", Registry("recognizer", table))
    monkeypatch.setenv("SPEECHPIPE_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("SPEECHPIPE_BUNDLE", "scripted")
    import_module("speechpipe.interfaces.cli.doctor")  # adds the command
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 0, done.output
    assert re.search(r"recognizer +scripted +ok\n", done.output)
    assert re.search(r"recognizer +gone +cannot load: No module named 'speechpipe.nowhere'\n", done.output)
    assert re.search(r"scripted +files verified\n", done.output)
    assert "accounting balanced" in done.output


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"<html>welcome</html>", "is not a health report"),
        (200, b'{"hello": 1}', "is not a health report"),
        (502, b"<html>bad gateway</html>", "answers 502: Bad Gateway"),
        (403, b'{"error": {"message": "not with this key"}}', "answers 403: not with this key"),
        (500, b"[1]", "answers 500: Internal Server Error"),
    ],
)
def test_a_report_of_what_is_no_server_of_ours_is_one_line(status: int, body: bytes, said: str) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

    with HTTPServer(("127.0.0.1", 0), Answer) as peer:
        thread = threading.Thread(target=peer.serve_forever, daemon=True)
        thread.start()
        done = run("report", "--url", f"http://127.0.0.1:{peer.server_port}")
        peer.shutdown()
    assert done.returncode != 0
    (line,) = done.stderr.decode().splitlines()
    assert said in line


def test_a_report_of_a_server_that_is_not_there_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    done = run("report", "--url", f"http://127.0.0.1:{port}")
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert "cannot be reached" in line
    assert "urlopen" not in line


def test_a_named_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = (SAMPLES / "sentence_slt.flac").read_bytes()
    writer = threading.Thread(target=lambda: pipe.write_bytes(data), daemon=True)
    writer.start()
    done = run("transcribe", str(pipe), "--bundle", "scripted", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
