"""`speechpipe stream` as a person uses it: files, pipes, a terminal, a microphone."""

import json
import os
import pty
import select
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests import preloaded
from tests.interfaces.cli.test_commands import run
from tests.live_client import CLIPS, pcm, spoken
from tests.patience import PATIENCE_S
from tests.sounds import EXPECTED, SAMPLES, encoded

FILE = str(SAMPLES / EXPECTED[CLIPS[0]]["file"])
MICROPHONE = """
import time, pathlib
class PortAudioError(Exception): pass
class RawInputStream:
    def __init__(self, rate, size, dtype, channels, callback):
        assert (dtype, channels) == ("int16", 1)
        self.size, self.callback, self.data = size * 2, callback, pathlib.Path(__file__).with_name("pcm").read_bytes()
    def __enter__(self):
        import threading
        threading.Thread(target=self.play, daemon=True).start()
    def __exit__(self, *_): pass
    def play(self):
        for start in range(0, len(self.data), self.size):
            self.callback(self.data[start:start + self.size], 0, 0, None)
        while True:
            self.callback(bytes(self.size), 0, 0, None)
            time.sleep(0.05)
"""


def transcribed() -> str:
    done = run("transcribe", FILE, "--bundle", "scripted", "--format", "json")
    return str(json.loads(done.stdout)["text"])


def test_a_file_becomes_the_same_text_as_by_transcribe() -> None:
    done = run("stream", FILE, "--fast", "--bundle", "scripted")
    assert done.returncode == 0, done.stderr
    assert " ".join(done.stdout.decode().split()) == transcribed()


def test_standard_input_as_a_container_and_as_raw_samples() -> None:
    audio = spoken(CLIPS[0])
    wav = run("stream", "-", "--fast", "--bundle", "scripted", data=encoded(audio))
    raw = run("stream", "-", "--rate", "16000", "--bundle", "scripted", data=pcm(audio))
    assert wav.returncode == raw.returncode == 0, raw.stderr
    assert len(wav.stdout.split()) == len(raw.stdout.split()) > 0


def test_in_real_time_it_takes_as_long_as_the_audio() -> None:
    begun = time.monotonic()
    done = run("stream", FILE, "--bundle", "scripted")
    assert done.returncode == 0
    assert time.monotonic() - begun >= EXPECTED[CLIPS[0]]["duration_s"]


def test_on_a_terminal_partial_text_is_rewritten_in_place() -> None:
    ours, theirs = pty.openpty()
    process = preloaded.start("stream", FILE, "--bundle", "scripted", stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    shown = b""
    while select.select([ours], [], [], PATIENCE_S)[0]:
        try:
            chunk = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(ours)
    assert process.wait(PATIENCE_S) == 0
    assert process.stderr is not None
    process.stderr.close()
    *partials, final = [part for part in shown.decode().replace("\r\n", "\n").split("\r\x1b[K") if part]
    assert partials
    assert final.strip() == transcribed()


def test_the_microphone_is_heard(tmp_path: Path) -> None:
    (tmp_path / "sounddevice.py").write_text(MICROPHONE)
    (tmp_path / "pcm").write_bytes(pcm(np.concatenate([spoken(CLIPS[0]), np.zeros(16_000, np.float32)])))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    words = ("stream", "--mic", "--bundle", "scripted")
    process = preloaded.start(*words, stdout=subprocess.PIPE, env=environment, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()  # it goes on for ever
    process.send_signal(2)
    rest, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert (line + rest).split()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "--mic"),
        ([FILE, "--mic"], 2, "--mic"),
        (["nowhere.wav"], 2, "nowhere.wav"),
        ([FILE, "--bundle", "nothing"], 2, "nothing"),
        ([FILE, "--set", "vad.threshold=7"], 2, "vad.threshold"),
        ([str(SAMPLES / "expected.toml"), "--fast"], 2, ""),
    ],
    ids=str,
)
def test_what_cannot_be_streamed_is_said(arguments: list[str], code: int, said: str) -> None:
    done = run("stream", *arguments)
    assert done.returncode == code
    assert said in done.stderr.decode()
    assert done.stdout == b""
    assert b"Traceback" not in done.stderr
