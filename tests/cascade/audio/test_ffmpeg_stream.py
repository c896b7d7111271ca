"""Containers decoded as they arrive: bounded whatever they decode to, and every byte that gives no sound is said."""

import time
from collections.abc import Callable
from itertools import pairwise

import av
import numpy as np
import pytest

from speechpipe.cascade.audio import ffmpeg_stream
from speechpipe.cascade.audio.byte_pipe import UNHEARD_BYTES, BytePipe
from speechpipe.cascade.audio.ffmpeg_stream import DECODED_BYTES, WAITING_BYTES, FfmpegStream
from speechpipe.errors import SpeechpipeError, StageFailed, UndecodableAudio
from speechpipe.types import Samples
from tests.patience import PATIENCE_S
from tests.sounds import encoded, encoded_by_ffmpeg, tone

FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
FORMS: dict[str, Callable[[Samples], bytes]] = {
    "ogg": lambda audio: encoded_by_ffmpeg(audio, "ogg", "libopus"),
    "matroska": lambda audio: encoded_by_ffmpeg(audio, "webm", "libopus"),
    "flac": lambda audio: encoded_by_ffmpeg(audio, "flac", "flac", 16_000),
    "mp3": lambda audio: encoded_by_ffmpeg(audio, "mp3", "libmp3lame"),
    "aac": lambda audio: encoded_by_ffmpeg(audio, "adts", "aac"),
    "mp4": lambda audio: encoded_by_ffmpeg(audio, "mp4", "aac", options=FRAGMENTED),
}
LOW, HIGH = 300, 900


def waited(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def decoded(name: str, data: bytes) -> tuple[list[int], FfmpegStream]:
    """Return the tone in each quarter of a second, and the stream."""
    stream, blocks = FfmpegStream(name, lambda: None), []
    end = time.monotonic() + PATIENCE_S
    for at in range(0, len(data), 1000):
        stream.feed(data[at : at + 1000])
        while stream.full:
            blocks.append(stream.take(0.5))
            time.sleep(0.001)
            assert time.monotonic() < end
    stream.finish()
    while not stream.exhausted:
        blocks.append(stream.take(0.5))
        time.sleep(0.001)
        assert time.monotonic() < end
    found = [block[:, 0] for block in blocks if block is not None]
    sound, piece = np.concatenate(found), stream.info.rate_hz // 4
    spectra = [np.abs(np.fft.rfft(sound[at : at + piece])) for at in range(0, len(sound) - piece, piece)]
    return [int(spectrum.argmax()) * 4 for spectrum in spectra], stream


def within(hertz: list[int], wanted: int) -> int:
    return sum(abs(one - wanted) <= 8 for one in hertz)


NOT_FOUND = {("ogg", "flac"), ("matroska", "flac"), *((first, "aac") for first in FORMS if first != "aac")}
"""FLAC may be a part of Ogg and Matroska, and ADTS begins with nothing unmistakable."""


@pytest.mark.grid
@pytest.mark.parametrize("second", FORMS)
@pytest.mark.parametrize("first", FORMS)
def test_another_recording_on_the_same_connection_is_decoded_too(first: str, second: str) -> None:
    data = FORMS[first](tone(1.0, LOW)) + FORMS[second](tone(1.0, HIGH))
    hertz, stream = decoded(first, data)
    assert within(hertz, LOW) >= 3
    if (first, second) in NOT_FOUND and not within(hertz, HIGH):
        told = "audio_damaged" in {notice.code for notice in stream.notices}
        assert told or first == "flac", "what was not decoded is said; FLAC takes it for a part of its last frame"
        return
    assert within(hertz, HIGH) >= 2
    assert hertz.index(min(hertz, key=lambda one: abs(one - HIGH))) > 1


@pytest.mark.parametrize("name", FORMS)
def test_a_container_that_is_cut_gives_what_it_has(name: str) -> None:
    data = FORMS[name](tone(4.0, LOW))
    hertz, _ = decoded(name, data[: len(data) * 3 // 4])
    assert within(hertz, LOW) >= 6


EVERY_FRAME = {"movflags": "frag_every_frame+empty_moov+default_base_moof"}
TENTHS = FRAGMENTED | {"frag_duration": "100000"}
TAGS = b"\x12\x54\xc3\x67\x50\x00" + bytes(4096) + b"\xec\x50\x00" + bytes(4096)  # and empty space
APE = b"APETAGEX" + (2000).to_bytes(4, "little") + (9000).to_bytes(4, "little") + bytes(16) + b"picture " * 1125
ID3 = b"ID3\x03\0\0" + bytes([0, 0, 64, 0]) + b"picture " * 1024
INDEXED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "every frame a fragment": ("mp4", lambda: encoded_by_ffmpeg(tone(12.0), "mp4", "aac", options=EVERY_FRAME)),
    "many fragments": ("mp4", lambda: encoded_by_ffmpeg(tone(30.0), "mp4", "aac", options=TENTHS)),
    "empty space": ("mp4", lambda: FORMS["mp4"](tone(1.0)) + (50_000).to_bytes(4, "big") + b"free" + bytes(49_992)),
    "cues": (
        "matroska",
        lambda: encoded_by_ffmpeg(tone(30.0), "webm", "libopus", options={"cluster_time_limit": "100"}),
    ),
    "tags in matroska": ("matroska", lambda: unsized(FORMS["matroska"](tone(1.0))) + TAGS),
    "tags behind mp3": ("mp3", lambda: FORMS["mp3"](tone(1.0)) + APE + ID3 + b"TAG" + bytes(125)),
}
"""Recordings with much behind the last sound that holds none."""


def unsized(data: bytes) -> bytes:
    """Return a recording of Matroska whose segment has no length, as of one that is being written."""
    at = data.index(b"\x18\x53\x80\x67")
    return data[: at + 4] + b"\x01" + b"\xff" * 7 + data[at + 12 :]


@pytest.mark.parametrize("form", INDEXED)
def test_indexes_tags_and_empty_space_are_no_loss(form: str) -> None:
    name, write = INDEXED[form]
    data = write()
    hertz, stream = decoded(name, data)
    assert hertz
    assert not stream.notices


@pytest.mark.parametrize("name", ["aac", "mp4", "matroska"])
def test_what_gives_no_sound_is_said(name: str) -> None:
    hertz, stream = decoded(name, FORMS[name](tone(1.0, LOW)) + bytes(range(256)) * 200)
    assert within(hertz, LOW) >= 3
    assert "audio_damaged" in {notice.code for notice in stream.notices}


SILENT: dict[str, tuple[str, Callable[[], bytes]]] = {
    "index at the end": ("mp4", lambda: encoded_by_ffmpeg(tone(1.0), "ipod", "aac")),
    "header only": ("matroska", lambda: FORMS["matroska"](tone(1.0))[:200]),
    "broken ogg": ("ogg", lambda: b"OggS" + bytes(range(256)) * 40),
    "broken flac": ("flac", lambda: b"fLaC\0\0\0\x22" + bytes(5000)),
}


@pytest.mark.parametrize("form", SILENT)
def test_no_sound_at_all_is_an_error(form: str) -> None:
    name, write = SILENT[form]
    data = write()
    with pytest.raises(UndecodableAudio) as caught:
        decoded(name, data)
    assert caught.value.cause == "undecodable_audio"


@pytest.mark.parametrize(
    ("rate", "channels", "cause"), [(96_000, 1, "unsupported_sample_rate"), (48_000, 8, "unsupported_channels")]
)
def test_what_nobody_speaks_into_is_refused_live(
    rate: int, channels: int, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ffmpeg_stream, "MAX_CHANNELS", 6)
    with pytest.raises(UndecodableAudio) as caught:
        decoded("flac", silence(1, rate, channels))
    assert caught.value.cause == cause


def silence(seconds: int, rate: int = 16_000, channels: int = 1) -> bytes:
    return encoded(np.zeros((seconds * rate, channels), np.float32), rate, form="FLAC")


def test_an_hour_in_a_few_bytes_is_decoded_as_it_is_taken() -> None:
    data, calls = silence(3600), []
    stream = FfmpegStream("flac", lambda: calls.append(1))
    at = 0
    while at < len(data) and not stream.full:
        stream.feed(data[at : at + 4096])
        at += 4096
        time.sleep(0.001)
    waited(lambda: stream.held_bytes >= DECODED_BYTES)
    time.sleep(0.2)
    longest = 65_535 * 4
    assert stream.held_bytes <= DECODED_BYTES + longest + WAITING_BYTES + 2 * 4096
    assert stream.waiting_s(time.monotonic()) > 0.1
    block = stream.take(0.5)
    assert block is not None
    assert len(block) == 8000
    rest = stream.take(3600.0)
    assert rest is not None
    assert rest.nbytes <= DECODED_BYTES + longest, "it waits until somebody takes"
    stream.abort()
    waited(lambda: stream.exhausted)
    assert stream.held_bytes == 0


def test_frames_of_many_channels_count_with_all_of_them() -> None:
    data = silence(60, 48_000, 8)
    stream = FfmpegStream("flac", lambda: None)
    stream.feed(data)
    waited(lambda: stream.held_bytes >= DECODED_BYTES)
    time.sleep(0.2)
    block = stream.take(60.0)
    assert block is not None
    assert block.shape[1] == 8
    assert block.nbytes <= DECODED_BYTES + 65_535 * 8 * 4
    stream.abort()


def test_a_packet_that_never_ends_is_given_up() -> None:
    head = FORMS["matroska"](tone(0.5))
    cluster = head.index(b"\x1f\x43\xb6\x75")
    block = b"\xa3\x08\x7f\xff\xff\xff"  # a SimpleBlock of 2 GiB, in a cluster without a length
    stream = FfmpegStream("matroska", lambda: None)
    stream.feed(head[:cluster] + b"\x1f\x43\xb6\x75\x01\xff\xff\xff\xff\xff\xff\xff" + b"\xe7\x81\x00" + block)
    sent, end = 0, time.monotonic() + PATIENCE_S
    while not stream.has_samples and not stream.exhausted and time.monotonic() < end:
        if not stream.full:
            stream.feed(bytes(16 * 1024))
            sent += 16 * 1024
        time.sleep(0.0001)
    assert sent <= 2 * UNHEARD_BYTES
    with pytest.raises(UndecodableAudio):
        stream.take(0.5)


def test_whatever_the_decoding_thread_meets_is_told_to_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    def unforeseen(*_: object, **__: object) -> None:
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr(av, "open", unforeseen)
    woken: list[int] = []
    stream = FfmpegStream("ogg", lambda: woken.append(1))
    waited(lambda: stream.has_samples)
    with pytest.raises(StageFailed) as caught:
        stream.take(0.5)
    assert "ZeroDivisionError: unforeseen" in caught.value.message
    assert woken
    assert stream.exhausted
    stream.feed(bytes(10**6))
    assert not stream.full, "nothing piles up behind a thread that has ended"
    assert stream.held_bytes == 0


def test_an_error_comes_after_the_sound_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[int] = []
    told: list[int] = []

    def late(_: BytePipe) -> None:
        raised.append(1)
        raise SpeechpipeError("late")

    monkeypatch.setattr(BytePipe, "following", late)  # is asked for when the recording has ended
    stream = FfmpegStream("ogg", lambda: told.extend(raised))
    stream.feed(FORMS["ogg"](tone(1.0)))
    stream.finish()
    waited(lambda: bool(told))  # that the thread has ended
    assert stream.take(10.0) is not None
    with pytest.raises(SpeechpipeError, match="late"):
        stream.take(10.0)


def test_the_beginning_of_a_recording_is_found_however_it_is_cut() -> None:
    one, two = FORMS["ogg"](tone(1.0, LOW)), FORMS["mp4"](tone(1.0, HIGH))
    for cut in range(len(one) - 3, len(one) + 14):
        pipe = BytePipe("ogg")
        for start, stop in pairwise([0, cut, len(one) + len(two)]):
            pipe.write((one + two)[start:stop])
        pipe.end()
        read = b""
        while data := pipe.read(4096):
            read += data
        pipe.heard()
        assert read == one
        assert pipe.following() == ("mp4", 0)
        assert pipe.read(10**6) == two


MUTED: dict[str, tuple[str, Callable[[Samples], bytes]]] = {
    **{name: (name, form) for name, form in FORMS.items()},
    "vorbis": ("ogg", lambda audio: encoded(audio, form="OGG", subtype="VORBIS")),
}


def taken(stream: FfmpegStream, done: Callable[[], bool]) -> Samples:
    """Take until `done`; return the first channel of it."""
    heard, end = [np.zeros(0, np.float32)], time.monotonic() + PATIENCE_S
    while not done():
        block = stream.take(0.5)
        heard += [block[:, 0]] if block is not None else []
        time.sleep(0.001)
        assert time.monotonic() < end
    return np.concatenate(heard)


def at_once(name: str, data: bytes) -> Samples:
    stream = FfmpegStream(name, lambda: None)
    stream.feed(data)
    stream.finish()
    return taken(stream, lambda: stream.exhausted)


def chirp(seconds: float) -> Samples:
    """Return a sound that is nowhere the same."""
    times = np.arange(round(seconds * 16_000)) / 16_000
    return (0.3 * np.sin(2 * np.pi * (200 + 300 * times) * times)).astype(np.float32)


@pytest.mark.parametrize("form", MUTED)
def test_what_was_fed_before_a_drain_is_heard_to_its_last_whole_frame(form: str) -> None:
    name, write = MUTED[form]
    data = write(chirp(2.0))
    expected = at_once(name, data)
    stream = FfmpegStream(name, lambda: None)
    stream.feed(data)
    stream.drain()
    heard = taken(stream, lambda: stream.drained)
    assert len(heard) / stream.info.rate_hz == pytest.approx(len(expected) / stream.info.rate_hz, abs=0.03)
    stream.drain()
    assert not len(taken(stream, lambda: stream.drained))
    stream.finish()
    heard = np.concatenate([heard, taken(stream, lambda: stream.exhausted)])
    np.testing.assert_allclose(heard, expected, atol=1e-6, err_msg="nothing twice")
    assert not stream.notices


@pytest.mark.parametrize("form", MUTED)
def test_drains_anywhere_lose_nothing_and_give_nothing_twice(form: str) -> None:
    name, write = MUTED[form]
    data = write(chirp(3.0))
    stream, heard = FfmpegStream(name, lambda: None), []
    for start, stop in pairwise([0, *range(len(data) // 7, len(data), len(data) // 7), len(data)]):
        stream.feed(data[start:stop])
        stream.drain()
        heard.append(taken(stream, lambda: stream.drained))
    stream.finish()
    heard.append(taken(stream, lambda: stream.exhausted))
    np.testing.assert_allclose(np.concatenate(heard), at_once(name, data), atol=1e-6)
    assert not stream.notices
