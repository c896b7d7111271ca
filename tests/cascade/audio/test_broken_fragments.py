"""Fragmented MP4 and transport streams with damage: read on at the next fragment or packet, and how much is missing."""

import random
from collections.abc import Callable
from functools import partial

import pytest

from tests.cascade.audio.reading import read_whole
from tests.cascade.audio.test_bytes_between import STREAMS
from tests.containers import Track, written
from tests.mutants import mutant
from tests.sounds import Made, sample

SENTENCE = sample("digits")
SECONDS = len(SENTENCE) / 16_000
SECOND_S = len(sample("sentence_awb")) / 16_000
RANDOM = random.Random(5).randbytes
FLAGS = {"relative": "frag_keyframe+empty_moov+default_base_moof", "absolute": "frag_keyframe+empty_moov"}
FRAGMENTED = Made(
    {
        name: partial(written, "mp4", "aac", Track(SENTENCE), options={"movflags": flags, "frag_duration": "300000"})
        for name, flags in FLAGS.items()
    }
)
HTML = b"<html><body>502 Bad Gateway</body></html>\n" * 20
Damage = Callable[[bytes, int], bytes]
DAMAGE: dict[str, tuple[Damage, str]] = {
    "text inserted": (lambda data, at: data[:at] + HTML + data[at:], "840 bytes are not boxes"),
    "random inserted": (lambda data, at: data[:at] + RANDOM(200_000) + data[at:], "200000 bytes are not boxes"),
    "bytes removed": (lambda data, at: data[:at] + data[at + 500 :], "500 bytes are missing"),
    "overwritten": (lambda data, at: data[:at] + RANDOM(1000) + data[at + 1000 :], ""),
}


def in_samples(data: bytes, share: float) -> int:
    """Return an offset soon after the beginning of the samples of a fragment in the middle."""
    return data.index(b"mdat", int(len(data) * share)) + 60


@pytest.mark.parametrize("share", [0.2, 0.5])
@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("base", FRAGMENTED)
def test_the_fragments_behind_a_damaged_place_are_read(base: str, how: str, share: float) -> None:
    data = FRAGMENTED[base]
    damage, said = DAMAGE[how]
    read = read_whole(damage(data, in_samples(data, share)))
    assert read.seconds == pytest.approx(SECONDS, abs=0.6)
    assert said in read.warnings["audio_damaged"]


@pytest.mark.parametrize("base", FRAGMENTED)
def test_an_index_of_a_fragment_that_is_damaged_costs_this_fragment(base: str) -> None:
    data = FRAGMENTED[base]
    at = data.index(b"moof", len(data) // 2) + 30
    for broken in (data[:at] + HTML + data[at:], data[:at] + data[at + 2000 :]):
        read = read_whole(broken)
        assert read.seconds == pytest.approx(SECONDS, abs=0.7)
        assert "audio_damaged" in read.warnings


@pytest.mark.parametrize("base", FRAGMENTED)
def test_a_fragmented_file_that_is_cut_is_told_with_the_bytes(base: str) -> None:
    data = FRAGMENTED[base]
    at = in_samples(data, 0.5)
    missing = int.from_bytes(data[at - 64 : at - 60], "big") - 64
    read = read_whole(data[:at])
    assert f"{missing} bytes" in read.warnings["audio_truncated"]


SECONDS_BEHIND = STREAMS | Made(
    {
        "fragmented": lambda: written(
            "mp4", "aac", Track(sample("sentence_awb")), options={"movflags": FLAGS["relative"]}
        ),
        "m4a": lambda: written("ipod", "aac", Track(sample("sentence_awb"))),
    }
)


@pytest.mark.parametrize("second", SECONDS_BEHIND)
@pytest.mark.parametrize("base", FRAGMENTED)
def test_a_recording_behind_a_fragmented_file_that_is_cut(base: str, second: str) -> None:
    data = FRAGMENTED[base]
    read = read_whole(data[: len(data) // 2] + SECONDS_BEHIND[second])
    assert read.seconds == pytest.approx(SECONDS / 2 + SECOND_S, abs=0.7)
    assert read.warnings["several_recordings"].startswith("2 recordings")
    assert "audio_truncated" in read.warnings


@pytest.mark.parametrize("inserted", [bytes(20 * 188), bytes(1000 * 188), bytes(3_000_000), RANDOM(500_000), HTML])
@pytest.mark.parametrize("aligned", [True, False])
def test_a_transport_stream_is_read_behind_a_damaged_place(inserted: bytes, aligned: bool) -> None:
    data = written("mpegts", "aac", Track(SENTENCE))
    at = len(data) // 2 // 188 * 188 + (0 if aligned else 77)
    read = read_whole(data[:at] + inserted + data[at:])
    assert read.seconds == pytest.approx(SECONDS, abs=0.2)
    assert read.warnings["audio_damaged"].startswith(f"{len(inserted)} bytes") or not aligned


def test_a_fragment_that_states_a_place_before_the_damage_is_read_where_it_is() -> None:
    """Found by the fuzzer: mutant 76 of tests/mutants.py."""
    assert read_whole(mutant(76)).seconds > 1
