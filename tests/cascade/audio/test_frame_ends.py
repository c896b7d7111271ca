"""Where frames end: every byte passes once, in order, and what is whole can be had at once."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from speechpipe.cascade.audio.containers.flac import MAX_FRAME
from speechpipe.cascade.audio.frame_ends import END_TAG, FRAME_ENDS, PADDING, FlacFrames, MpegFrames
from tests.sounds import Made, bursts, encoded, encoded_by_ffmpeg

NOISE = bursts([(3.0, 0.1)])
ID3 = b"ID3\x03\0\0" + bytes([0, 4, 0, 0]) + b"\xff\xfb\x90" * 21_845 + b"\xff"  # 64 KiB that look like frames
APE = b"APETAGEX" + (2000).to_bytes(4, "little") + (3000).to_bytes(4, "little") + bytes(16) + b"\xff\xfb\x90" * 1000
RANDOM = np.random.default_rng(3).bytes(60_000)


@cache
def flac() -> bytes:
    return encoded(NOISE, form="FLAC")


@cache
def mp3() -> bytes:
    return encoded_by_ffmpeg(NOISE, "mp3", "libmp3lame")


STREAMS: Made[tuple[str, bytes]] = Made(
    {
        "flac": lambda: ("flac", flac()),
        "flac damaged": lambda: ("flac", flac()[:20_000] + flac()[30_000:50_000] + bytes(300) + flac()[50_000:]),
        "flac that is noise": lambda: ("flac", flac()[:42] + RANDOM * 10),
        "mp3": lambda: ("mp3", mp3()),
        "mp3 with tags": lambda: ("mp3", ID3 + mp3() + APE + END_TAG),
        "mp3 damaged": lambda: ("mp3", mp3()[:5000] + RANDOM + mp3()[7000:]),
        "mp3 that is noise": lambda: ("mp3", mp3()[:5000] + RANDOM * 10),
    }
)


@pytest.mark.parametrize("step", [1, 13, 1000, 10**6])
@pytest.mark.parametrize("stream", STREAMS)
def test_every_byte_passes_once_and_in_order(stream: str, step: int) -> None:
    name, data = STREAMS[stream]
    data = data if step > 1 else data[:40_000]
    frames, out = FRAME_ENDS[name](), bytearray()
    for at in range(0, len(data), step):
        out += frames.feed(data[at : at + step])
        assert frames.kept_bytes <= MAX_FRAME + step
        assert len(out) + frames.kept_bytes == min(at + step, len(data))
    out += frames.finish()
    assert bytes(out) == data


def test_a_whole_frame_of_flac_passes_at_a_drain_and_the_recording_begins_again() -> None:
    frames = FlacFrames()
    passed = frames.feed(flac())
    assert frames.kept_bytes, "nothing follows it, so only its checksum says that it is whole"
    drained = frames.drain()
    assert passed + drained.data == flac()
    assert drained.again == b"fLaC\x80" + flac()[5:42]
    assert not frames.drain().again, "nothing came since"


def test_a_frame_of_flac_that_is_not_whole_waits_for_its_rest() -> None:
    frames = FlacFrames()
    begun = frames.feed(flac()[:30_000])
    kept = frames.kept_bytes
    assert len(begun) + kept == 30_000
    drained = frames.drain()
    assert not drained.data
    assert drained.again
    rest = frames.feed(flac()[30_000:])
    assert begun + rest + frames.drain().data == flac()


def test_padding_stands_only_between_frames_of_mp3_and_once() -> None:
    frames = MpegFrames()
    assert frames.drain().data == b""
    out = frames.feed(mp3()[:7001])
    assert frames.kept_bytes
    assert frames.drain().data == PADDING
    assert frames.drain().data == b""
    assert frames.finish() == mp3()[len(out) : 7001]
    whole = MpegFrames()
    whole.feed(out)
    assert whole.drain().data == PADDING
    assert whole.finish() == END_TAG, "so that the padding is no damage"


def test_a_tag_and_damage_are_not_padded() -> None:
    tagged = MpegFrames()
    tagged.feed(mp3() + ID3[:30_000])
    assert tagged.drain().data == b""
    damaged = MpegFrames()
    damaged.feed(mp3() + bytes(500))
    assert damaged.drain().data == b""


def test_chains_of_pieces_of_any_size() -> None:
    random = np.random.default_rng(5)
    for name, data in (("flac", flac()), ("mp3", mp3())):
        cuts = [0, *sorted(int(one) for one in random.integers(0, len(data), 40)), len(data)]
        frames, out = FRAME_ENDS[name](), b""
        for start, stop in pairwise(cuts):
            out += frames.feed(data[start:stop])
            drained = frames.drain()
            out += drained.data.removesuffix(PADDING)
        assert (out + frames.finish()).removesuffix(END_TAG) == data
