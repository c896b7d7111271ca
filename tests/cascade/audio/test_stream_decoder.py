"""Live audio: every encoding gives the samples that were sent, however the bytes were cut."""

import time
import wave
from collections.abc import Callable
from io import BytesIO
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechpipe.cascade.audio.stream_decoder import WireDecoder
from speechpipe.cascade.audio.wire_format import WireFormat
from speechpipe.errors import InvalidParameter, UndecodableAudio
from speechpipe.types import Samples
from tests.live_client import pcm
from tests.patience import PATIENCE_S
from tests.sounds import encoded_by_ffmpeg, tone


def decoded(wire: WireFormat, data: bytes, step: int) -> list[Samples]:
    decoder = WireDecoder(wire)
    parts: list[list[Samples] | None] = []
    for start in range(0, len(data), step):
        while decoder.full:
            parts.append(decoder.take(0.5))
        parts.append(decoder.feed(data[start : start + step]))
    parts += [decoder.finish(), *rest(decoder)]
    blocks = [part for part in parts if part is not None]
    return [np.concatenate(channel) for channel in zip(*blocks, strict=True)]


def rest(decoder: WireDecoder) -> list[list[Samples] | None]:
    """Return what a container gives after the end of its bytes."""
    parts: list[list[Samples] | None] = []
    until = time.monotonic() + PATIENCE_S
    while not decoder.exhausted:
        assert time.monotonic() < until
        parts.append(decoder.take(0.5))
        time.sleep(0.001)
    return [*parts, decoder.flush()]


def similar(one: Samples, other: Samples) -> float:
    """Correlation of two signals of nearly the same length, at their best shift."""
    size = min(len(one), len(other))
    correlation = np.correlate(one[:size], other[400 : size - 400], "valid")
    return float(correlation.max() / (np.linalg.norm(one[:size]) * np.linalg.norm(other[:size]) + 1e-9))


@given(st.integers(1, 5000))
def test_pcm_is_a_stream_of_bytes_however_it_is_cut(step: int) -> None:
    samples = tone(0.3, 440)
    (got,) = decoded(WireFormat("linear16", 16_000), pcm(samples), step)
    assert np.allclose(got, samples, atol=1e-3)


@pytest.mark.parametrize(("encoding", "codec"), [("mulaw", "pcm_mulaw"), ("alaw", "pcm_alaw")])
def test_telephone_audio_is_decoded_as_the_standard_says(encoding: str, codec: str) -> None:
    every = bytes(range(256)) * 4
    decoder: Any = av.CodecContext.create(codec, "r")
    decoder.sample_rate, decoder.layout = 16_000, "mono"
    (frame,) = decoder.decode(av.Packet(every))
    theirs = frame.to_ndarray()[0]
    (ours,) = decoded(WireFormat(encoding, 16_000), every, 100)
    assert np.array_equal(np.round(ours * 32768).astype(int), theirs)


FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [
        ("ogg", "libopus", 48_000),
        ("webm", "libopus", 48_000),
        ("flac", "flac", 16_000),
        ("mp3", "libmp3lame", 16_000),
        ("adts", "aac", 16_000),
        ("mp4", "aac", 16_000),
        ("wav", "pcm_s16le", 16_000),
        ("wav", "pcm_mulaw", 16_000),
    ],
)
@pytest.mark.parametrize("step", [1, 333, 10**6])
def test_containers_say_what_they_are(container: str, codec: str, rate: int, step: int) -> None:
    samples = tone(1.5, 300) * np.linspace(0.2, 1, 24_000, dtype=np.float32)
    options = FRAGMENTED if container == "mp4" else None
    data = encoded_by_ffmpeg(samples, container, codec, rate, options=options)
    (got,) = decoded(WireFormat(), data, step)
    assert abs(len(got) - len(samples)) < 2500
    assert similar(got, samples) > 0.9


def test_a_wav_sent_as_linear16_is_read_as_the_wav_it_is() -> None:
    file = BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((2, 2, 8000, 0, "NONE", ""))
        out.writeframes(pcm(np.repeat(tone(1.0, 200)[::2], 2)))
    decoder = WireDecoder(WireFormat("linear16", 16_000))
    parts = [decoder.feed(file.getvalue()), decoder.finish()]
    assert sum(len(part[0]) for part in parts if part) == pytest.approx(16_000, abs=10)
    assert {notice.code for notice in decoder.notices} == {"sample_rate_mismatch", "channels_mismatch"}


def test_channels_stay_apart() -> None:
    left, right = tone(0.5, 200), tone(0.5, 1000)
    data = pcm(np.stack([left, right], axis=1).reshape(-1))
    first, second = decoded(WireFormat("linear16", 16_000, 2, True), data, 999)
    assert np.allclose(first, left, atol=1e-3)
    assert np.allclose(second, right, atol=1e-3)
    (mixed,) = decoded(WireFormat("linear16", 16_000, 2), data, 999)
    assert np.allclose(mixed, (left + right) / 2, atol=1e-3)


def test_a_half_sample_at_the_end_is_told() -> None:
    decoder = WireDecoder(WireFormat("linear16", 16_000))
    decoder.feed(bytes(3201))
    decoder.finish()
    assert [notice.code for notice in decoder.notices] == ["partial_sample"]


@pytest.mark.parametrize(
    "data",
    [b"this is no audio at all", bytes(64), b"OggS" + bytes(range(200)) * 20, b"RIFF\0\0\0\0WAVEfmt " + bytes(99)],
    ids=["text", "zeros", "broken ogg", "broken wav"],
)
def test_garbage_is_refused(data: bytes) -> None:
    decoder = WireDecoder(WireFormat())
    pieces = [data[start : start + 16] for start in range(0, len(data), 16)]
    with pytest.raises(UndecodableAudio):
        _ = [decoder.feed(piece) for piece in pieces], decoder.finish(), rest(decoder)


@pytest.mark.parametrize(
    ("make", "param"),
    [
        (lambda: WireFormat("mp5"), "encoding"),
        (lambda: WireFormat("linear16"), "sample_rate"),
        (lambda: WireFormat("linear16", 100), "sample_rate"),
        (lambda: WireFormat("linear16", 16_000, 0), "channels"),
    ],
)
def test_formats_that_cannot_be_are_refused(make: Callable[[], WireFormat], param: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        make()
    assert caught.value.param == param


def test_telephone_audio_has_one_rate() -> None:
    assert WireFormat("mulaw").rate == 8000


def test_raw_audio_that_begins_as_mpeg_does_is_given_at_a_drain() -> None:
    sent = np.concatenate([np.frombuffer(b"\xff\xfb\x90\x10", "<i2"), np.arange(500, dtype="<i2")])
    decoder = WireDecoder(WireFormat("linear16", 16_000))
    assert decoder.feed(sent.tobytes()) is None, "more would say what it is"
    decoder.drain()
    assert (decoder.drained, decoder.exhausted) == (False, False)
    blocks = decoder.take(0.5)
    assert blocks is not None
    np.testing.assert_array_equal(blocks[0], sent.astype(np.float32) / 32768)
    assert (decoder.drained, decoder.exhausted) == (True, True)
    more = decoder.feed(sent.tobytes())
    assert more is not None
    assert len(more[0]) == len(sent)
