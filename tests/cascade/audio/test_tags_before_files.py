"""An ID3v2 tag before a file of any kind, as some programs write it, is passed over in uploads and live."""

import time

import pytest

from speechpipe.cascade.audio.stream_decoder import WireDecoder
from speechpipe.cascade.audio.wire_format import WireFormat
from speechpipe.errors import UndecodableAudio
from speechpipe.types import Samples
from tests.cascade.audio.reading import read_whole
from tests.containers import Track, written
from tests.patience import PATIENCE_S
from tests.sounds import Made, encoded, encoded_by_ffmpeg, sample

SENTENCE = sample("sentence_slt")
SECONDS = len(SENTENCE) / 16_000
SMALL = b"ID3\x04\0\0" + bytes([0, 0, 0, 22]) + bytes(22)
LARGE = b"ID3\x03\0\0" + bytes([0, 8, 0, 0]) + b"\xff\xfb\x90picture" * 13_108  # 128 KiB with false frame headers
LARGE = LARGE[: 10 + 8 * 2**14]
TAGS = {"small": SMALL, "large": LARGE, "two": SMALL + LARGE}
LIVE = Made(
    {
        "wav": lambda: encoded(SENTENCE),
        "flac": lambda: encoded(SENTENCE, form="FLAC"),
        "ogg": lambda: encoded_by_ffmpeg(SENTENCE, "ogg", "libopus"),
        "webm": lambda: written("webm", "libopus", Track(SENTENCE)),
        "mp3": lambda: written("mp3", "libmp3lame", Track(SENTENCE), options={"id3v2_version": "0"}),
        "aac": lambda: written("adts", "aac", Track(SENTENCE)),
    }
)
FILES = LIVE | Made(
    {
        "aiff": lambda: encoded(SENTENCE, form="AIFF"),
        "caf": lambda: encoded(SENTENCE, form="CAF"),
        "m4a": lambda: written("ipod", "aac", Track(SENTENCE)),
        "ac3": lambda: written("ac3", "ac3", Track(SENTENCE)),
        "tta": lambda: written("tta", "tta", Track(SENTENCE)),
        "wavpack": lambda: written("wv", "wavpack", Track(SENTENCE)),
        "mpegts": lambda: written("mpegts", "aac", Track(SENTENCE)),
    }
)


@pytest.mark.grid
@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("form", FILES)
def test_a_file_behind_a_tag_is_read(form: str, tag: str) -> None:
    read = read_whole(TAGS[tag] + FILES[form])
    assert read.seconds == pytest.approx(SECONDS, abs=0.15)
    assert read.warnings == {}


def heard_live(data: bytes, step: int, declared: WireFormat) -> tuple[float, WireDecoder]:
    decoder = WireDecoder(declared)
    count, end = 0, time.monotonic() + PATIENCE_S

    def add(blocks: list[Samples] | None) -> None:
        nonlocal count
        count += len(blocks[0]) if blocks else 0

    for at in range(0, len(data), step):
        add(decoder.feed(data[at : at + step]))
        while decoder.full and time.monotonic() < end:
            add(decoder.take(1.0))
            time.sleep(0.001)
    add(decoder.finish())
    while not decoder.exhausted and time.monotonic() < end:
        add(decoder.take(1.0))
        time.sleep(0.001)
    add(decoder.flush())
    return count / 16_000, decoder


@pytest.mark.grid
@pytest.mark.parametrize("step", [7, 4096])
@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("form", LIVE)
def test_a_recording_behind_a_tag_is_heard_live(form: str, tag: str, step: int) -> None:
    seconds, decoder = heard_live(TAGS[tag] + LIVE[form], step, WireFormat())
    assert seconds == pytest.approx(SECONDS, abs=0.15)
    assert decoder.notices == []


def test_a_recording_behind_a_tag_that_was_declared_as_samples() -> None:
    seconds, decoder = heard_live(SMALL + LIVE["flac"], 4096, WireFormat("linear16", 16_000))
    assert seconds == pytest.approx(SECONDS, abs=0.1)
    assert [notice.code for notice in decoder.notices] == ["encoding_mismatch"]


@pytest.mark.parametrize("data", [SMALL, LARGE[:5000]], ids=["whole", "cut"])
def test_a_tag_alone_is_an_error(data: bytes) -> None:
    with pytest.raises(UndecodableAudio, match="ID3"):
        heard_live(data, 1000, WireFormat())
