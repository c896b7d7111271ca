"""Several audio tracks, and channels that are mixed by where they stand."""

import io

import numpy as np
import pytest
import soundfile

from speechpipe.cascade.audio.mixdown import Mixdown
from speechpipe.cascade.audio.source import ChannelChoice
from speechpipe.errors import InvalidParameter
from speechpipe.types import Samples
from tests.cascade.audio.reading import read_whole
from tests.containers import Track, written
from tests.sounds import encoded, sample, tone

SPEECH = sample("sentence_slt")
SILENCE = np.zeros_like(SPEECH)
LAYOUTS = {"5.1": 6, "7.1": 8, "5.0": 5, "3.0": 3}
NAMED = [("matroska", "flac"), ("wav", "pcm_s16le"), ("w64", "pcm_s16le"), ("caf", "pcm_s16le"), ("mp4", "aac"),
         ("ogg", "flac"), ("flac", "flac"), ("ac3", "ac3"), ("wv", "wavpack")]  # fmt: skip


def test_the_default_track_is_taken_and_said() -> None:
    data = written("matroska", "aac", Track(SILENCE, default=False), Track(SPEECH))
    read = read_whole(data)
    assert len(read.sounds()) == 1
    assert read.warnings["audio_tracks"].startswith("2 audio tracks; track 1 ")
    assert (read.info.tracks, read.info.track) == (2, 1)


@pytest.mark.parametrize("form", ["mp4", "mov", "matroska", "mpegts"])
def test_a_track_can_be_chosen(form: str) -> None:
    data = written(form, "aac", Track(SILENCE), Track(SPEECH), Track(tone(3.9)))
    assert read_whole(data).sounds() == []
    chosen = read_whole(data, ChannelChoice(track=1))
    assert len(chosen.sounds()) == 1
    assert chosen.warnings == {}, "who chooses need not be told"
    with pytest.raises(InvalidParameter, match=r"track 3 does not exist; the file has 3 \(0-based\)") as refused:
        read_whole(data, ChannelChoice(track=3))
    assert refused.value.param == "track"


def test_a_file_without_tracks_has_track_0() -> None:
    assert len(read_whole(encoded(SPEECH), ChannelChoice(track=0)).audio) == len(SPEECH)
    with pytest.raises(InvalidParameter, match="the file has 1"):
        read_whole(encoded(SPEECH), ChannelChoice(track=1))


def film(channels: int, centre: int, bass: int | None) -> Samples:
    """Speech in the centre, music everywhere else, a rumble in the bass."""
    time = np.arange(len(SPEECH)) / 16_000
    music = sum(level * np.sin(2 * np.pi * hertz * time) for level, hertz in ((0.12, 220), (0.1, 277), (0.1, 330)))
    mixed = np.stack([music * (0.9 if index else 1.0) for index in range(channels)], axis=1).astype(np.float32)
    mixed[:, centre] = 0.7 * SPEECH
    if bass is not None:
        mixed[:, bass] = 0.9 * np.sin(2 * np.pi * 40 * time)
    return mixed


def alike(heard: Samples, wanted: Samples) -> float:
    """Correlation of two envelopes of 20 ms, whatever the delay of a codec."""
    levels = [
        np.sqrt(np.mean(part[: len(part) // 320 * 320].reshape(-1, 320) ** 2, axis=1)) for part in (heard, wanted)
    ]
    length = min(map(len, levels)) - 10
    return max(float(np.corrcoef(levels[0][lag : lag + length], levels[1][:length])[0, 1]) for lag in range(10))


@pytest.mark.parametrize(("form", "codec"), NAMED)
def test_dialogue_in_the_centre_of_5_1(form: str, codec: str) -> None:
    read = read_whole(written(form, codec, Track(film(6, 2, 3), layout="5.1")))
    assert alike(read.audio, SPEECH) > 0.95
    assert "centre_channel" in read.warnings


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_dialogue_in_the_centre_of_other_layouts(layout: str) -> None:
    channels = LAYOUTS[layout]
    read = read_whole(written("matroska", "flac", Track(film(channels, 2, 3 if channels > 5 else None), layout=layout)))
    assert alike(read.audio, SPEECH) > 0.95


def test_six_channels_without_a_layout_are_5_1() -> None:
    assert alike(read_whole(encoded(film(6, 2, 3))).audio, SPEECH) > 0.95
    assert alike(read_whole(encoded(film(6, 2, 3), form="FLAC")).audio, SPEECH) > 0.95


@pytest.mark.parametrize("channels", [3, 4, 6, 8])
def test_one_channel_that_speaks_is_heard_wherever_it_is(channels: int) -> None:
    for index in range(channels):
        one = np.stack([SPEECH if number == index else SILENCE for number in range(channels)], axis=1)
        read = read_whole(encoded(one))
        assert alike(read.audio, SPEECH) > 0.99, index


def test_talkers_who_take_turns_are_all_heard() -> None:
    """Six channels without a layout may be six microphones; one of them stands where a centre would."""
    turns = np.zeros((3 * len(SPEECH), 6), np.float32)
    for turn, channel in enumerate((0, 2, 4)):
        turns[turn * len(SPEECH) : (turn + 1) * len(SPEECH), channel] = SPEECH
    read = read_whole(encoded(turns))
    for turn in range(3):
        part = read.audio[turn * len(SPEECH) : (turn + 1) * len(SPEECH)]
        assert alike(part, SPEECH) > 0.99, turn


def test_the_bass_of_a_named_layout_is_left_out_and_nothing_clips() -> None:
    full = np.ones((16_000, 6), np.float32) * np.sign(tone(1.0, 300.0))[:, None]
    names = ("FL", "FR", "FC", "LFE", "BL", "BR")
    assert np.abs(Mixdown(names).feed(full)).max() <= 1.0
    bass = np.zeros((16_000, 6), np.float32)
    bass[:, 3] = tone(1.0, 40.0)
    assert np.abs(Mixdown(names).feed(bass)).max() == 0.0
    surround = np.zeros((16_000, 6), np.float32)
    surround[:, 4] = tone(1.0)
    left = np.zeros((16_000, 6), np.float32)
    left[:, 0] = tone(1.0)
    ratio = np.abs(Mixdown(names).feed(left)).max() / np.abs(Mixdown(names).feed(surround)).max()
    assert ratio == pytest.approx(2**0.5, rel=0.01), "surrounds are 3 dB lower"


def test_mono_stereo_and_chosen_channels_are_as_they_were() -> None:
    stereo = np.stack([SPEECH, 0.5 * SPEECH], axis=1)
    np.testing.assert_allclose(read_whole(encoded(stereo, subtype="FLOAT")).audio, stereo.mean(axis=1), atol=1e-6)
    surround = film(6, 2, 3)
    chosen = read_whole(encoded(surround, subtype="FLOAT"), ChannelChoice(channel=3))
    np.testing.assert_array_equal(chosen.audio, surround[:, 3])


def test_a_mask_in_a_wav_says_where_channels_stand() -> None:
    """Four channels with a mask of front left, front right, centre and back centre: the third is a centre."""
    data = bytearray(encoded(film(4, 2, None), form="WAVEX"))
    at = data.index(b"fmt ") + 8 + 20
    data[at : at + 4] = (0x107).to_bytes(4, "little")
    read = read_whole(bytes(data))
    assert alike(read.audio, SPEECH) > 0.95
    assert read.info.layout == ("FL", "FR", "FC", "BC")
    assert soundfile.info(io.BytesIO(bytes(data))).channels == 4
