"""Containers that come where samples were declared: found at the beginning, and said when they come later."""

import warnings

import numpy as np
import pytest

from speechpipe.cascade.audio.ffmpeg_stream import FfmpegStream
from speechpipe.cascade.audio.live_formats import WITHIN_BYTES, mistaken, recording_in
from speechpipe.cascade.audio.stream_decoder import WireDecoder
from speechpipe.cascade.audio.wire_format import RAW, WireFormat
from speechpipe.errors import UndecodableAudio
from tests.cascade.audio.test_ffmpeg_stream import decoded
from tests.containers import Track, written
from tests.sounds import Made, encoded, encoded_by_ffmpeg, sample, tone

SENTENCE = sample("sentence_slt")
PCM = (SENTENCE * 32767).astype("<i2").tobytes()
LATER = Made(
    {
        "wav": lambda: encoded(SENTENCE),
        "FLAC": lambda: encoded(SENTENCE, form="FLAC"),
        "Ogg": lambda: encoded_by_ffmpeg(SENTENCE, "ogg", "libopus"),
        "Matroska": lambda: encoded_by_ffmpeg(SENTENCE, "webm", "libopus"),
        "mp4": lambda: encoded_by_ffmpeg(SENTENCE, "ipod", "aac"),
        "mp3": lambda: encoded_by_ffmpeg(SENTENCE, "mp3", "libmp3lame"),
    }
)


@pytest.mark.parametrize("encoding", RAW)
def test_a_transport_stream_declared_as_samples_is_called_that(encoding: str) -> None:
    data = written("mpegts", "aac", Track(SENTENCE))
    decoder = WireDecoder(WireFormat(encoding, 16_000))
    with pytest.raises(UndecodableAudio, match="MPEG transport stream"):
        decoder.feed(data)


def test_samples_that_repeat_the_first_byte_of_a_packet_are_samples() -> None:
    decoder = WireDecoder(WireFormat("linear16", 16_000))
    blocks = decoder.feed(b"\x47" * 32_000)
    assert blocks is not None
    assert len(blocks[0]) == 16_000


@pytest.mark.parametrize("step", [1, 640, 10**6])
@pytest.mark.parametrize("name", LATER)
def test_a_recording_behind_samples_is_said_once(name: str, step: int) -> None:
    decoder = WireDecoder(WireFormat("linear16", 16_000))
    before = PCM[: 32_000 if step > 1 else 4_000]
    sent = before + 2 * LATER[name][: None if step > 1 else 2 * WITHIN_BYTES]
    for at in range(0, len(sent), step):
        decoder.feed(sent[at : at + step])
    said = [notice.message for notice in decoder.notices if "begins" in notice.message]
    assert len(said) == 1
    assert said[0].startswith(f"a recording ({name}) begins {len(before)} bytes into")


def test_samples_are_not_taken_for_a_recording() -> None:
    assert recording_in(np.random.default_rng(1).bytes(8_000_000)) is None
    assert recording_in(PCM) is None


@pytest.mark.parametrize("encoding", RAW)
def test_few_bytes_are_judged_without_warnings_of_numpy(encoding: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for size in (0, 1, 23, 24, 47, 480):
            assert mistaken(PCM[:size], encoding) is None


def test_the_warning_about_tracks_names_nothing_that_live_does_not_have() -> None:
    data = written("matroska", "libopus", Track(tone(1.0)), Track(tone(1.0)))
    stream: FfmpegStream = decoded("matroska", data)[1]
    message = next(notice.message for notice in stream.notices if notice.code == "audio_tracks")
    assert "`track`" not in message
