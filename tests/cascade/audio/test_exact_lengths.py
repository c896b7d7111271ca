"""What stands behind samples whose length is exact: read as what it is, or counted; never heard as noise."""

import io
import random
from typing import Any

import numpy as np
import pytest
import soundfile

from speechpipe.cascade.audio.wire_format import WireFormat
from tests.cascade.audio.reading import read_whole
from tests.cascade.audio.test_bytes_between import BOTH_S, FIRST, STREAMS, both_are_heard
from tests.cascade.audio.test_tags_before_files import heard_live
from tests.sounds import encoded, tone

RANDOM = random.Random(9).randbytes
FIRST_S = len(FIRST) / 16_000
NO_SAMPLES = {
    "random": RANDOM(100_000),
    "zip": b"PK\x03\x04" + RANDOM(60_000),
    "jpeg": b"\xff\xd8\xff\xe0" + RANDOM(60_000),
    "text": b"<html>gateway</html>" * 3000,
}
FORMS: dict[str, tuple[str, str]] = {
    "pcm": ("WAV", "PCM_16"),
    "24 bits": ("WAV", "PCM_24"),
    "floats": ("WAV", "FLOAT"),
    "a-law": ("WAV", "ALAW"),
    "mu-law": ("WAV", "ULAW"),
    "extensible": ("WAVEX", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
}
STEREO = np.stack([FIRST, 0.5 * FIRST], axis=1)


def exact(name: str) -> bytes:
    form, subtype = FORMS[name]
    return encoded(FIRST, form=form, subtype=subtype)


@pytest.mark.grid
@pytest.mark.parametrize("behind", NO_SAMPLES)
@pytest.mark.parametrize("name", FORMS)
def test_other_bytes_are_counted(name: str, behind: str) -> None:
    read = read_whole(exact(name) + NO_SAMPLES[behind])
    assert read.seconds == pytest.approx(FIRST_S, abs=0.01)
    assert read.warnings["audio_truncated"].startswith(f"{len(NO_SAMPLES[behind])} bytes")
    assert "header_too_short" not in read.warnings


@pytest.mark.grid
@pytest.mark.parametrize("second", STREAMS)
@pytest.mark.parametrize("between", [b"", b"\0", b"\r\n", RANDOM(1000)])
@pytest.mark.parametrize("name", ["pcm", "a-law", "extensible", "aiff", "w64"])
def test_a_recording_is_heard(name: str, between: bytes, second: str) -> None:
    read = both_are_heard(exact(name) + between + STREAMS[second])
    assert "header_too_short" not in read.warnings


@pytest.mark.parametrize("name", ["pcm", "24 bits", "floats", "a-law", "mu-law", "au", "caf", "aiff"])
def test_samples_that_go_on_are_heard(name: str) -> None:
    """A program that was killed leaves sizes that agree with each other, of what it had written before."""
    form, subtype = FORMS[name]
    endian = "BIG" if form in ("AIFF", "AU", "CAF") else "LITTLE"
    buffer = io.BytesIO()
    soundfile.write(buffer, FIRST, 16_000, format="RAW", subtype=subtype, endian=endian)
    read = read_whole(exact(name) + buffer.getvalue())
    assert read.seconds == pytest.approx(2 * FIRST_S, abs=0.02)
    assert "header_too_short" in read.warnings


@pytest.mark.parametrize(
    "sound", [STEREO, np.random.default_rng(1).normal(0, 0.1, 32_000), tone(2.0), tone(2.0) * 1e-4]
)
def test_a_length_that_the_whole_size_contradicts_is_corrected(sound: Any) -> None:
    data = encoded(sound)
    at = data.index(b"data") + 4
    read = read_whole(data[:at] + (8000).to_bytes(4, "little") + data[at + 4 :])
    assert read.seconds == pytest.approx(len(sound) / 16_000, abs=0.01)
    assert "header_too_short" in read.warnings


LIVE = {name: STREAMS[name] for name in ("mp3", "aac", "flac", "wav")}


@pytest.mark.grid
@pytest.mark.parametrize("step", [640, 4096, 10**6])
@pytest.mark.parametrize("between", [b"", b"\0", RANDOM(1000)])
@pytest.mark.parametrize("second", LIVE)
@pytest.mark.parametrize("name", ["pcm", "a-law"])
def test_a_recording_is_heard_live(name: str, second: str, between: bytes, step: int) -> None:
    seconds, decoder = heard_live(exact(name) + between + LIVE[second], step, WireFormat())
    assert seconds == pytest.approx(BOTH_S, abs=0.2)
    codes = [item.code for item in decoder.notices if item.code != "sample_rate_mismatch"]
    assert codes == (["audio_damaged"] if len(between) > 2 else [])


@pytest.mark.grid
@pytest.mark.parametrize("step", [640, 10**6])
@pytest.mark.parametrize("behind", NO_SAMPLES)
@pytest.mark.parametrize("name", ["pcm", "a-law", "mu-law"])
def test_other_bytes_are_counted_live(name: str, behind: str, step: int) -> None:
    seconds, decoder = heard_live(exact(name) + NO_SAMPLES[behind], step, WireFormat())
    assert seconds == pytest.approx(FIRST_S, abs=0.01)
    assert decoder.notices[0].message.startswith(f"{len(NO_SAMPLES[behind])} bytes behind the last sample")


@pytest.mark.parametrize("step", [640, 10**6])
def test_samples_that_go_on_are_heard_live(step: int) -> None:
    data = exact("pcm")
    seconds, decoder = heard_live(data + data[-2 * len(FIRST) :], step, WireFormat())
    assert seconds == pytest.approx(2 * FIRST_S, abs=0.01)
    assert decoder.notices == []


def test_a_recording_in_samples_without_a_length_is_said_live() -> None:
    data = exact("pcm")
    at = data.index(b"data") + 4
    streamed = data[:at] + b"\xff" * 4 + data[at + 4 :]
    _, decoder = heard_live(streamed + STREAMS["flac"], 4096, WireFormat())
    assert [item.code for item in decoder.notices] == ["encoding_mismatch"]
