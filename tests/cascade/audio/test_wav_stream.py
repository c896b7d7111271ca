"""A WAV that arrives piece by piece: long chunks, headers that lie, one recording after another."""

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechpipe.cascade.audio.stream_decoder import WireDecoder
from speechpipe.cascade.audio.wav_stream import WavReader
from speechpipe.cascade.audio.wire_format import WireFormat
from speechpipe.errors import UndecodableAudio

PCM = bytes(range(1, 201)) * 10


def fmt(rate: int = 16_000, channels: int = 1, bits: int = 16, tag: int = 1) -> bytes:
    frame = channels * bits // 8
    return b"fmt " + struct.pack("<IHHIIHH", 16, tag, channels, rate, rate * frame, frame, bits)


def riff(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def chunk(name: bytes, data: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(data) if size is None else size) + data + b"\0" * (len(data) % 2)


def read(data: bytes, step: int) -> tuple[bytes, list[WireFormat]]:
    reader, formats, sound = WavReader(), list[WireFormat](), b""
    for at in range(0, len(data), step):
        sound += b"".join(reader.sound(data[at : at + step], formats.append))
    reader.finish()
    return sound, formats


@given(st.integers(1, 5000))
def test_chunks_before_the_sound_are_walked_however_long_they_are(step: int) -> None:
    wav = riff(chunk(b"LIST", b"z" * 20_001), fmt(), chunk(b"bext", b"b" * 700), chunk(b"data", PCM))
    sound, formats = read(wav, step)
    assert sound == PCM
    assert formats == [WireFormat("linear16", 16_000, 1)]


def test_a_chunk_of_megabytes_is_not_kept() -> None:
    reader = WavReader()
    head = riff(fmt()) + b"LIST" + struct.pack("<I", 50 * 2**20)
    assert list(reader.sound(head, lambda _: None)) == []
    tracemalloc.start()
    for _ in range(50):
        assert list(reader.sound(bytes(2**20), lambda _: None)) == []
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 64 * 1024
    assert list(reader.sound(chunk(b"data", PCM), lambda _: None)) == [PCM]


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_a_length_that_nobody_knew_means_to_the_end(size: int) -> None:
    assert read(riff(fmt(), chunk(b"data", PCM * 3, size)), 100)[0] == PCM * 3


def test_sound_behind_a_length_that_lies_is_sound() -> None:
    sound, _ = read(riff(fmt(), chunk(b"data", PCM, 100)), 77)
    assert sound == PCM


def test_chunks_behind_the_sound_are_not_sound() -> None:
    assert read(riff(fmt(), chunk(b"data", PCM), chunk(b"LIST", b"INFO" * 50)), 50)[0] == PCM


def test_another_recording_in_another_format_follows() -> None:
    both = riff(fmt(), chunk(b"data", PCM)) + riff(fmt(8000, 1, 8, 7), chunk(b"data", PCM))
    sound, formats = read(both, 33)
    assert sound == PCM * 2
    assert formats == [WireFormat("linear16", 16_000), WireFormat("mulaw", 8000)]
    decoder = WireDecoder(WireFormat())
    blocks = [decoder.feed(both), decoder.finish()]
    seconds = sum(len(block[0]) for block in blocks if block) / 16_000
    assert seconds == pytest.approx(len(PCM) / 32_000 + len(PCM) / 8000, abs=0.01)


@pytest.mark.parametrize(
    "data",
    [riff(fmt()), riff(chunk(b"data", PCM)), riff(fmt(bits=24), chunk(b"data", PCM)), riff(chunk(b"fmt ", b"short"))],
    ids=["no data", "no format", "24 bits", "short format"],
)
def test_no_sound_is_an_error(data: bytes) -> None:
    with pytest.raises(UndecodableAudio):
        read(data, 1000)
