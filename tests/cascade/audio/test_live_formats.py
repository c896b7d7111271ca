"""What bytes are, whatever was said of them."""

from collections.abc import Callable

import numpy as np
import pytest

from speechpipe.cascade.audio.g711 import G711
from speechpipe.cascade.audio.live_formats import MPEG_BYTES, container, may_be_mpeg, mistaken, not_live
from speechpipe.cascade.audio.stream_decoder import WireDecoder
from speechpipe.cascade.audio.wire_format import WireFormat
from speechpipe.errors import UndecodableAudio
from speechpipe.types import Samples
from tests.live_client import CLIPS, pcm
from tests.sounds import encoded, encoded_by_ffmpeg, sample, tone

FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


def second(name: str) -> Samples:
    """Return the loudest second of a clip."""
    audio = sample(name)
    starts = range(0, len(audio) - 16_000, 4000)
    best = max(starts, key=lambda at: float(np.square(audio[at : at + 16_000]).sum()))
    return audio[best : best + 16_000 // 24 * 24]


def by_law(audio: Samples, law: str) -> bytes:
    table = G711[law]
    order = np.argsort(table)
    places = np.clip(np.searchsorted(table[order], audio), 0, 255)
    return bytes(order[places].astype(np.uint8))


def int24(audio: Samples) -> bytes:
    return bytes((audio * (2**23 - 1)).astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes())


WRONG: dict[str, Callable[[Samples], bytes]] = {
    "32-bit floats": lambda audio: bytes(audio.astype("<f4")),
    "24-bit integers": int24,
    "32-bit integers": lambda audio: bytes((audio * 2147483000).astype("<i4")),
    "16-bit big-endian": lambda audio: bytes((audio * 32767).astype(">i2")),
    "mulaw": lambda audio: by_law(audio, "mulaw"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_samples_of_another_kind_are_recognised_by_their_sound(kind: str) -> None:
    found = [mistaken(WRONG[kind](second(name)), "linear16") for name in CLIPS]
    assert found.count(kind) >= len(CLIPS) - 1, found


def test_linear_samples_announced_as_telephone_audio_are_recognised() -> None:
    assert [mistaken(pcm(second(name)), "mulaw") for name in CLIPS] == ["linear16"] * len(CLIPS)


@pytest.mark.parametrize("step_s", [3, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("scale", [0.05, 0.3, 1.0, 4.0])
def test_what_was_announced_rightly_is_not_doubted(scale: float, step_s: int) -> None:
    for name in (*CLIPS, "noise", "noise_5db", "silence", "long_pauses", "telephone"):
        audio = sample(name)
        audio = np.clip(audio if audio.ndim == 1 else audio[:, 0], -1, 1) * np.float32(scale)
        for at in range(0, len(audio) - 16_000, step_s * 16_000):
            piece = np.clip(audio[at : at + 16_000], -1, 1)
            assert mistaken(pcm(piece), "linear16") is None, (name, at)
            assert mistaken(by_law(piece, "mulaw"), "mulaw") is None, (name, at)


def test_noise_is_noise_in_every_reading() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        assert mistaken(random.bytes(32_000), "linear16") is None
        assert mistaken(pcm(random.normal(0, 0.2, 16_000).astype(np.float32)), "linear16") is None


LIVE: dict[str, Callable[[Samples], bytes]] = {
    "ogg": lambda audio: encoded_by_ffmpeg(audio, "ogg", "libopus"),
    "matroska": lambda audio: encoded_by_ffmpeg(audio, "webm", "libopus"),
    "flac": lambda audio: encoded_by_ffmpeg(audio, "flac", "flac", 16_000),
    "mp4": lambda audio: encoded_by_ffmpeg(audio, "mp4", "aac", options=FRAGMENTED),
    "mp3": lambda audio: encoded_by_ffmpeg(audio, "mp3", "libmp3lame"),
    "aac": lambda audio: encoded_by_ffmpeg(audio, "adts", "aac"),
}


@pytest.mark.parametrize("name", LIVE)
def test_a_container_is_known_although_raw_samples_were_announced(name: str) -> None:
    data = LIVE[name](tone(0.5))
    assert container(data, certain=True) == name
    decoder = WireDecoder(WireFormat("linear16", 16_000))
    for at in range(0, len(data), 700):
        decoder.feed(data[at : at + 700])
    assert decoder.container == name
    assert [notice.code for notice in decoder.notices] == ["encoding_mismatch"]
    decoder.abort()


def test_an_mp3_without_a_tag_is_known_by_its_second_frame_and_loud_samples_are_not_taken_for_one() -> None:
    mp3 = encoded_by_ffmpeg(tone(1.0), "mp3", "libmp3lame", options={"id3v2_version": "0", "write_xing": "0"})
    assert mp3[0] == 0xFF
    assert container(mp3[:MPEG_BYTES], certain=True) == "mp3"
    loud = b"\xff\xfb\x90\x00" + pcm(second(CLIPS[0]))
    assert may_be_mpeg(loud)
    assert container(loud[:MPEG_BYTES], certain=True) is None
    decoder = WireDecoder(WireFormat("linear16", 16_000))
    assert decoder.feed(loud[:1000]) is None
    assert decoder.feed(loud[1000:]) is not None, "taken as what was announced"


@pytest.mark.parametrize("form", ["AIFF", "CAF", "AU"])
@pytest.mark.parametrize("announced", [WireFormat(), WireFormat("linear16", 16_000)])
def test_files_that_are_not_decoded_live_are_named(form: str, announced: WireFormat) -> None:
    data = encoded(tone(0.3), form=form)
    assert not_live(data) == form
    with pytest.raises(UndecodableAudio, match=form):
        WireDecoder(announced).feed(data)


def test_what_it_sounds_like_is_said_once_and_at_the_end_of_a_short_stream_too() -> None:
    floats = np.concatenate([second(name) for name in CLIPS[:3]]).astype("<f4").tobytes()
    decoder = WireDecoder(WireFormat("linear16", 16_000))
    for at in range(0, len(floats), 999):
        decoder.feed(floats[at : at + 999])
    decoder.finish()
    assert [notice.code for notice in decoder.notices if notice.code != "partial_sample"] == ["encoding_mismatch"]
    short = WireDecoder(WireFormat("linear16", 16_000))
    short.feed(second(CLIPS[0])[:6000].astype("<f4").tobytes())
    short.finish()
    assert [notice.code for notice in short.notices] == ["encoding_mismatch"]
