"""Lengths that a program could not know when it wrote the header are no claim."""

import struct

import pytest

from tests.cascade.audio.reading import read_whole
from tests.sounds import Made, encoded, sample

SENTENCE = sample("sentence_slt")
SECONDS = len(SENTENCE) / 16_000


def put(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def piped_w64() -> bytes:
    data = put(encoded(SENTENCE, form="W64"), 16, b"\xff" * 8)
    return put(data, data.index(b"data\xf3") + 16, b"\xff" * 7 + b"\x7f")


def piped_rf64(size: int) -> bytes:
    data = encoded(SENTENCE, form="RF64")
    return put(data, data.index(b"ds64") + 8, struct.pack("<QQ", size, size))


def piped_flac() -> bytes:
    data = encoded(SENTENCE, form="FLAC")
    bits = int.from_bytes(data[18:26], "big") | (1 << 36) - 1
    return put(data, 18, bits.to_bytes(8, "big"))


PIPED = Made(
    {
        "w64": piped_w64,
        "rf64 with zeros": lambda: piped_rf64(0),
        "rf64 with ones": lambda: piped_rf64(2**64 - 1),
        "rf64 beyond reason": lambda: piped_rf64(2**62),
        "flac": piped_flac,
    }
)


@pytest.mark.parametrize("form", PIPED)
def test_an_unknown_length_is_no_claim(form: str) -> None:
    read = read_whole(PIPED[form], max_s=60.0)
    assert read.seconds == pytest.approx(SECONDS, abs=0.01)
    assert read.warnings == {}


@pytest.mark.parametrize("form", PIPED)
def test_two_of_them_end_to_end(form: str) -> None:
    read = read_whole(PIPED[form] * 2, max_s=60.0)
    assert read.seconds == pytest.approx(2 * SECONDS, abs=0.1)
    assert list(read.warnings) == ["several_recordings"]
