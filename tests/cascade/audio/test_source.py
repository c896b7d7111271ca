"""From files to 16 kHz blocks: whole, bounded, in constant memory."""

import io
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
import pytest
import soundfile

from speechpipe.cascade.audio import BLOCK_S, BLOCK_VALUES
from speechpipe.cascade.audio.source import AudioSource, ChannelChoice
from speechpipe.errors import InvalidParameter, TooLarge
from speechpipe.types import Samples
from tests.sounds import encoded, sample, tone


@contextmanager
def opened(data: bytes, choice: ChannelChoice | None = None, max_s: float | None = None) -> Iterator[AudioSource]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        source = AudioSource(_binary(file), choice or ChannelChoice(), max_s)
        try:
            yield source
        finally:
            source.close()


def _binary(file: object) -> BinaryIO:
    return file  # type: ignore[return-value]


def read(source: AudioSource) -> list[Samples]:
    blocks = list(source.blocks())
    return [np.concatenate([block[channel] for block in blocks]) for channel in range(source.sessions)]


def test_16_khz_mono_arrives_bit_for_bit() -> None:
    audio = sample("digits")
    with opened(encoded(audio, form="FLAC")) as source:
        np.testing.assert_array_equal(read(source)[0], audio)


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100, 48_000, 96_000])
def test_resampling_keeps_the_tone_and_the_length_and_adds_no_alias(rate: int) -> None:
    with opened(encoded(tone(2.0, 1000.0, rate=rate), rate, subtype="FLOAT")) as source:
        (got,) = read(source)
    assert len(got) == pytest.approx(32_000, abs=2)
    middle = got[4000:-4000]
    np.testing.assert_allclose(middle, tone(2.0, 1000.0)[4000 : 4000 + len(middle)], atol=2e-3)
    if rate > 20_000:
        with opened(encoded(tone(2.0, 10_000.0, rate=rate), rate, subtype="FLOAT")) as source:
            assert np.abs(read(source)[0][2000:-2000]).max() < 0.003, "10 kHz must not fold back to 6 kHz"


def test_one_channel_or_all_of_them() -> None:
    stereo = np.stack([tone(1.0, 300), tone(1.0, 700)], axis=1)
    with opened(encoded(stereo, subtype="FLOAT"), ChannelChoice(channel=1)) as source:
        np.testing.assert_array_equal(read(source)[0], stereo[:, 1])
    with opened(encoded(stereo, subtype="FLOAT"), ChannelChoice(multichannel=True)) as source:
        left, right = read(source)
        np.testing.assert_array_equal(left, stereo[:, 0])
        np.testing.assert_array_equal(right, stereo[:, 1])
    with pytest.raises(InvalidParameter, match="does not exist"), opened(encoded(stereo), ChannelChoice(channel=2)):
        pass


def test_too_long_is_noticed_by_the_header_and_by_counting() -> None:
    with pytest.raises(TooLarge), opened(encoded(tone(3.0)), max_s=2.0):
        pass
    unknown = bytearray(encoded(tone(40.0), form="FLAC"))
    unknown[21:26] = bytes([unknown[21] & 0xF0, 0, 0, 0, 0])  # STREAMINFO says: length not known
    with opened(bytes(unknown), max_s=20.0) as source:
        assert source.info.claimed_s is None
        with pytest.raises(TooLarge):
            read(source)


def test_memory_does_not_grow_with_the_length() -> None:
    peaks = []
    for minutes in (1, 4):
        buffer = io.BytesIO()
        with soundfile.SoundFile(buffer, "w", 44_100, 2, "PCM_16", format="FLAC") as file:
            for _ in range(minutes * 6):
                file.write(np.zeros((441_000, 2), np.float32))
        with opened(buffer.getvalue()) as source:
            tracemalloc.start()
            for _ in source.blocks():
                pass
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.1
    assert peaks[1] < 12 * 4 * BLOCK_VALUES


def test_blocks_are_bounded_in_seconds() -> None:
    with opened(encoded(tone(60.0))) as source:
        assert max(len(block[0]) for block in source.blocks()) <= BLOCK_S * 16_000
