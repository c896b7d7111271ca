"""Why a file is refused, in words that tell a person what to do; and what may not be opened at all."""

import io
import zipfile
from collections.abc import Callable

import av
import numpy as np
import pytest

from speechpipe.cascade.audio.containers.names import CONTAINERS
from speechpipe.errors import UndecodableAudio
from tests.cascade.audio.reading import read_whole
from tests.containers import Track, written
from tests.sounds import Made, encoded, sample

SPEECH = sample("sentence_slt")
FILES = Made(
    {
        "m4a": lambda: written("ipod", "aac", Track(SPEECH)),
        "webm": lambda: written("webm", "libopus", Track(SPEECH)),
        "fragments": lambda: written(
            "mp4", "aac", Track(SPEECH), options={"movflags": "frag_keyframe+empty_moov", "frag_duration": "500000"}
        ),
        "ogg": lambda: written("ogg", "libopus", Track(SPEECH)),
    }
)
CLUSTER = b"\x1f\x43\xb6\x75"


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.wav", encoded(SPEECH))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: FILES["m4a"][: FILES["m4a"].index(b"moov") - 4], r"is incomplete.*moov"),
        (lambda: FILES["fragments"][FILES["fragments"].index(b"moof") - 4 :], "first chunk"),
        (lambda: FILES["webm"][FILES["webm"].index(CLUSTER) :], "first chunk"),
        (lambda: FILES["webm"][FILES["webm"].index(CLUSTER) + 500 :], "first chunk"),
        (lambda: FILES["ogg"][FILES["ogg"].index(b"OggS", 500) :], "first chunk"),
        (lambda: FILES["ogg"][700:], "first chunk"),
        (lambda: encoded(SPEECH)[:30], "ends before its samples|fmt"),
        (lambda: np.random.default_rng(5).bytes(100_000), "no known file format"),
        (lambda: bytes(5000), "nothing but zeros"),
        (zipped, "ZIP"),
        (lambda: b"<!DOCTYPE html><html><body>404</body></html>" * 10, "HTML"),
        (lambda: b'{"error": "not found"}' * 20, "JSON"),
        (lambda: b"this is a text about audio, renamed\n" * 50, "text"),
        (lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\nfile:///etc/passwd\n", "playlist"),
        (lambda: b"ffconcat version 1.0\nfile /etc/hostname\n", "playlist"),
        (lambda: b"MThd\0\0\0\x06\0\0\0\1\0\x60MTrk" + bytes(100), "MIDI"),
        (lambda: b"RIFF", "4 bytes"),
    ],
    ids=range(17),
)
def test_the_reason_is_told(made: Callable[[], bytes], words: str) -> None:
    with pytest.raises(UndecodableAudio, match=words) as refused:
        read_whole(made())
    for misleading in ("regular file", "pipe", "Invalid data", "Invalid argument", "No such file"):
        assert misleading not in refused.value.message


def test_a_film_without_sound() -> None:
    with pytest.raises(UndecodableAudio, match="no audio track"):
        read_whole(written("matroska", "flac", video_s=1.0))


DANGEROUS = {
    *(
        "hls",
        "concat",
        "concatf",
        "dash",
        "imf",
        "sdp",
        "rtsp",
        "rtp",
        "sap",
        "image2",
        "image2pipe",
        "vobsub",
        "lavfi",
    ),
    *(
        "webm_dash_manifest",
        "sbg",
        "ffmetadata",
        "tty",
        "data",
        "tedcaptions",
        "alsa",
        "oss",
        "fbdev",
        "x11grab",
        "v4l2",
    ),
    *("kmsgrab", "video4linux2", "mpjpeg", "png_pipe", "svg_pipe"),
}


def test_what_may_name_other_files_is_not_opened() -> None:
    allowed = set(CONTAINERS.split(","))
    assert not allowed & DANGEROUS
    known = {part for name in av.formats_available for part in name.split(",")}
    assert {name for name in allowed if name not in known} <= {"m4a", "3gp", "mp4", "webm"}, "a name that FFmpeg lost"


WRITTEN = [
    ("3gp", "aac"), ("ac3", "ac3"), ("adts", "aac"), ("aiff", "pcm_s16be"), ("asf", "wmav2"), ("au", "pcm_s16be"),
    ("avi", "libmp3lame"), ("caf", "alac"), ("eac3", "eac3"), ("flac", "flac"), ("flv", "aac"),
    ("ipod", "alac"), ("latm", "aac"), ("matroska", "libopus"), ("mov", "pcm_s24le"),
    ("mp2", "mp2"), ("mp3", "libmp3lame"), ("mp4", "ac3"), ("mpeg", "mp2"), ("mpegts", "aac"),
    ("nut", "flac"), ("ogg", "flac"), ("oga", "libopus"), ("opus", "libopus"), ("rm", "ac3"), ("sox", "pcm_s32le"),
    ("spdif", "ac3"), ("tta", "tta"), ("voc", "pcm_u8"), ("vob", "mp2"),
    ("w64", "pcm_s16le"), ("wav", "pcm_s16le"), ("webm", "libopus"), ("wtv", "mp2"), ("wv", "wavpack"), ("dvd", "ac3"),
    ("ismv", "aac"), ("f4v", "aac"), ("mmf", "adpcm_yamaha"), ("swf", "libmp3lame"),
    ("smjpeg", "pcm_s16le"), ("svcd", "mp2"), ("vcd", "mp2"),
]  # fmt: skip
RATES = {"flv": 44_100, "swf": 44_100, "mmf": 22_050, "vcd": 44_100, "svcd": 44_100}


@pytest.mark.parametrize(("form", "codec"), WRITTEN)
def test_every_container_that_holds_its_sound_is_read(form: str, codec: str) -> None:
    read = read_whole(written(form, codec, Track(SPEECH), rate=RATES.get(form, 48_000)))
    assert read.seconds == pytest.approx(len(SPEECH) / 16_000, abs=0.3)
    assert len(read.sounds()) == 1


@pytest.mark.parametrize(
    ("form", "codec"), [("mxf", "pcm_s16le"), ("avi", "libmp3lame"), ("vob", "mp2"), ("wtv", "mp2")]
)
def test_and_with_a_picture(form: str, codec: str) -> None:
    read = read_whole(written(form, codec, Track(SPEECH), video_s=5.0))
    assert read.seconds == pytest.approx(len(SPEECH) / 16_000, abs=0.5)
    assert len(read.sounds()) == 1
