"""Live containers with missing or cut parts: what is missing is said, as it is for uploads."""

import random

import pytest

from speechpipe.cascade.audio.frame_ends import OggPages
from tests.cascade.audio.test_ffmpeg_stream import decoded
from tests.containers import Track, written
from tests.sounds import Made, encoded, encoded_by_ffmpeg, sample

SENTENCE = sample("digits")
RANDOM = random.Random(5).randbytes
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "500000"}
FORMS: Made[tuple[str, bytes]] = Made(
    {
        "opus": lambda: ("ogg", encoded_by_ffmpeg(SENTENCE, "ogg", "libopus")),
        "vorbis": lambda: ("ogg", encoded(SENTENCE, form="OGG", subtype="VORBIS")),
        "flac": lambda: ("flac", encoded(SENTENCE, form="FLAC")),
        "mp3": lambda: ("mp3", written("mp3", "libmp3lame", Track(SENTENCE))),
        "webm": lambda: ("matroska", written("webm", "libopus", Track(SENTENCE))),
        "mp4": lambda: ("mp4", written("mp4", "aac", Track(SENTENCE), options=FRAGMENTED)),
    }
)


def told(name: str, data: bytes) -> dict[str, str]:
    _, stream = decoded(name, data)
    return {notice.code: notice.message for notice in stream.notices}


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_said_of_a_whole_recording(form: str) -> None:
    assert told(*FORMS[form]) == {}


@pytest.mark.parametrize("form", FORMS)
def test_a_middle_quarter_that_is_missing_is_said(form: str) -> None:
    name, data = FORMS[form]
    quarter = len(data) // 4
    assert {"audio_damaged", "audio_truncated"} & set(told(name, data[: 2 * quarter] + data[3 * quarter :]))


@pytest.mark.parametrize("form", FORMS)
def test_a_recording_that_is_cut_is_said(form: str) -> None:
    name, data = FORMS[form]
    assert {"audio_damaged", "audio_truncated"} & set(told(name, data[: len(data) * 3 // 5]))


def test_missing_pages_are_counted() -> None:
    name, data = FORMS["opus"]
    pages = data.split(b"OggS")[1:]
    assert len(pages) > 6
    without = b"OggS" + b"OggS".join([*pages[:3], *pages[5:]])
    assert told(name, without)["audio_damaged"] == "2 Ogg pages are missing"


@pytest.mark.parametrize("step", [1, 77, 5000, 10**6])
def test_bytes_that_are_no_pages_do_not_reach_the_decoder(step: int) -> None:
    _, data = FORMS["opus"]
    pages = data.split(b"OggS")[1:]
    middle = b"OggS" + b"OggS".join(pages[:3])
    rubbish = RANDOM(3000) + b"OggS\0" + RANDOM(50)
    sent = middle + rubbish + data[len(middle) :] + rubbish
    sent = sent if step > 1 else sent[:12_000]
    frames, out = OggPages(), b""
    for at in range(0, len(sent), step):
        out += frames.feed(sent[at : at + step])
        assert frames.kept_bytes <= 65_307 + step
    out += frames.finish()
    assert data.startswith(out) if step == 1 else out == data
    assert [notice.code for notice in frames.notices] == ["audio_damaged"]


BEHIND = {"zeros": bytes(200_000), "random bytes": RANDOM(200_000)}


@pytest.mark.parametrize("behind", BEHIND)
def test_bytes_behind_ogg_are_said_once(behind: str) -> None:
    name, data = FORMS["opus"]
    _, stream = decoded(name, data + BEHIND[behind])
    assert len(stream.notices) == (behind != "zeros")


@pytest.mark.parametrize("size", [5000, 300_000])
def test_bytes_behind_flac_are_counted(size: int) -> None:
    name, data = FORMS["flac"]
    assert told(name, data + RANDOM(size)) == {
        "audio_damaged": f"{size} bytes behind the last frame contained no audio"
    }
    assert told(name, data + bytes(size)) == {}
    assert told(name, data + b"TAG" + bytes(125)) == {}


@pytest.mark.parametrize("how", ["inserted", "removed"])
def test_a_frame_of_flac_that_is_lost_is_said(how: str) -> None:
    name, data = FORMS["flac"]
    middle = len(data) // 2
    broken = data[:middle] + (RANDOM(100_000) + data[middle:] if how == "inserted" else data[middle + 300 :])
    assert told(name, broken)["audio_damaged"] == "frames of FLAC are missing or damaged in 1 place"
