"""Time stamps of containers: sane ones count, others do not, and neither costs memory."""

import io
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from speechpipe.cascade.audio.containers.timeline import Timeline
from speechpipe.types import Samples
from tests.cascade.audio.reading import Read, read_whole
from tests.containers import Track, written
from tests.sounds import sample, tone

FIRST, SECOND = sample("sentence_slt"), sample("sentence_awb")
BOTH = np.concatenate([FIRST, SECOND])
HOLE_AT_S = len(FIRST) / 16_000
VIDEO = [("mp4", "aac"), ("mov", "aac"), ("matroska", "aac"), ("matroska", "libopus"), ("webm", "libopus"),
         ("mpegts", "aac"), ("flv", "aac"), ("nut", "aac"),
         ("avi", "libmp3lame"), ("avi", "ac3")]  # fmt: skip
SOUND = [*VIDEO, ("ogg", "libopus"), ("matroska", "flac"), ("ipod", "aac")]


def rate_of(form: str) -> int:
    return 44_100 if form == "flv" else 48_000


@pytest.mark.parametrize(("form", "codec"), VIDEO)
def test_a_track_that_begins_later_than_the_picture(form: str, codec: str) -> None:
    data = written(form, codec, Track(FIRST, starts_s=3.0), rate=rate_of(form), video_s=8.0)
    read = read_whole(data)
    (sound,) = read.sounds()
    assert sound[0] == pytest.approx(3.0 + 0.32, abs=0.12)
    assert set(read.warnings) == {"gap_filled"}, "nothing of the sound is missing"


@pytest.mark.parametrize(("form", "codec"), SOUND)
def test_a_hole_of_ten_seconds(form: str, codec: str) -> None:
    read = read_whole(written(form, codec, Track(BOTH, hole_at_s=HOLE_AT_S, hole_s=10.0), rate=rate_of(form)))
    first, second = read.sounds()
    assert first == pytest.approx((0.32, 3.57), abs=0.12)
    assert second[0] == pytest.approx(HOLE_AT_S + 10.32, abs=0.12)
    assert set(read.warnings) == {"gap_filled"}
    assert "10.0" in read.warnings["gap_filled"] or "9.9" in read.warnings["gap_filled"]


@pytest.mark.parametrize(("form", "codec"), VIDEO)
def test_a_picture_longer_than_the_sound_is_no_loss(form: str, codec: str) -> None:
    read = read_whole(written(form, codec, Track(FIRST), rate=rate_of(form), video_s=8.0))
    assert read.warnings == {}
    assert read.seconds == pytest.approx(len(FIRST) / 16_000, abs=0.2)


@pytest.mark.parametrize(
    ("form", "codec"), [("mpegts", "aac"), ("mp4", "aac"), ("webm", "libopus"), ("matroska", "flac")]
)
@pytest.mark.parametrize("video_s", [0.0, 4.0])
def test_stamps_that_begin_at_a_hundred_seconds_begin_at_zero(form: str, codec: str, video_s: float) -> None:
    data = moved(written(form, codec, Track(FIRST), video_s=video_s), form, lambda at_s: at_s + 100.0)
    read = read_whole(data)
    assert read.sounds()[0][0] == pytest.approx(0.32, abs=0.12)
    assert read.warnings == {}


def test_a_cut_file_is_still_told() -> None:
    for form, codec in (("matroska", "flac"), ("webm", "libopus")):
        data = written(form, codec, Track(BOTH), video_s=8.0)
        assert set(read_whole(data[: len(data) * 2 // 3]).warnings) & {"audio_truncated", "audio_damaged"}


def moved(data: bytes, form: str, place: Callable[[float], float]) -> bytes:
    """Return the file with every packet's stamp put elsewhere."""
    out = io.BytesIO()
    source: Any
    with av.open(io.BytesIO(data)) as source, av.open(out, "w", format=form) as target:
        streams: dict[int, Any] = {item.index: target.add_stream_from_template(item) for item in source.streams}
        for packet in source.demux():
            if packet.dts is None or packet.pts is None:
                continue
            base = packet.time_base
            shift = round(Fraction(place(float(packet.pts * base))) / base) - packet.pts
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = streams[packet.stream_index]
            target.mux(packet)
    return out.getvalue()


def test_jitter_is_not_filled() -> None:
    random = np.random.default_rng(0)
    data = moved(
        written("matroska", "libopus", Track(FIRST)), "matroska", lambda at: at + 0.01 * float(random.random())
    )
    read = read_whole(data)
    assert read.warnings == {}
    assert read.seconds == pytest.approx(len(FIRST) / 16_000, abs=0.05)


def test_a_stamp_beyond_the_limit_makes_no_hours_of_silence() -> None:
    data = moved(written("matroska", "flac", Track(BOTH)), "matroska", lambda at: at + (9e5 if at > 3.9 else 0.0))
    # The header of this file says ten days, which is refused before anything is read; without it nothing is believed.
    unknown = data.replace(b"\x44\x89\x88", b"\xec\x89\x88", 1)
    read = read_whole(unknown, max_s=60.0)
    assert read.seconds == pytest.approx(len(BOTH) / 16_000, abs=0.1)
    assert "timestamps_ignored" in read.warnings


def blocks(seconds: float, rate: int = 1000) -> Samples:
    return np.ones((round(seconds * rate), 1), np.float32)


def told(timeline: Timeline, *stamps: float | None, length: float = 0.1) -> list[int]:
    """Feed pieces of 0.1 s at these stamps; return the length of what comes out, silence negative."""
    out = []
    for stamp in stamps:
        out += timeline.feed(stamp, blocks(length))
    out += timeline.finish()
    return [len(item) if item.any() else -len(item) for item in out]


@pytest.mark.parametrize(
    ("stamps", "filled_s", "ignored"),
    [
        ((0.0, 0.1, 0.2, 0.3), 0.0, 0),
        ((5.0, 5.1, 5.2), 0.0, 0),  # the first stamp is second 0
        ((0.0, 0.1, 3.2, 3.3), 3.0, 0),
        ((0.0, 0.1, 3.2, 6.3, 9.4, 9.5), 9.0, 0),  # a codec that sends one packet now and then
        ((0.0, 0.1, 3.2, 0.3, 0.4), 0.0, 1),  # one damaged stamp
        ((0.0, 0.1, 3.2), 0.0, 1),  # nothing confirms the last one
        ((0.0, 0.1, 500.0, 500.1), 0.0, 1),  # more than may come out
        ((0.0, 0.1, -0.3, -0.2, 0.5, 0.6), 0.0, 0),  # an overlap, then in step again
        ((10.0, 10.1, 0.0, 0.1, 3.2, 3.3), 3.0, 1),  # another timeline, with a hole
        ((None, None, None), 0.0, 0),
        ((0.0, 0.1, None, 3.3, 3.4), 3.0, 0),
        ((0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05), 0.25, 0),  # small holes add up until they are one
    ],
)
def test_what_is_believed(stamps: tuple[float | None, ...], filled_s: float, ignored: int) -> None:
    timeline = Timeline(1000, most_s=60.0)
    out = told(timeline, *stamps)
    assert sum(item for item in out if item > 0) == 100 * len(stamps), "every sample comes out once"
    assert timeline.filled / 1000 == pytest.approx(filled_s, abs=0.11)
    assert timeline.frames == sum(abs(item) for item in out)
    assert timeline.ignored == ignored


def test_silence_comes_in_small_pieces() -> None:
    timeline = Timeline(48_000)
    timeline.feed(0.0, blocks(0.1, 48_000))
    timeline.feed(3600.0, blocks(0.1, 48_000))
    pieces = timeline.feed(3600.1, blocks(0.1, 48_000))
    assert len(pieces) > 3000
    assert len({id(piece.base if piece.base is not None else piece) for piece in pieces}) < 6, "one piece of zeros"


def test_a_gap_beyond_the_file_s_own_length_is_not_believed() -> None:
    timeline = Timeline(1000, end_s=10.0)
    told(timeline, 0.0, 0.1, 50.0, 50.1)
    assert (timeline.filled, timeline.ignored) == (0, 1)


def test_a_track_of_silence_and_a_late_one_beside_it() -> None:
    data = written("matroska", "aac", Track(0 * BOTH, default=False), Track(FIRST, starts_s=2.0))
    read: Read = read_whole(data)
    assert read.sounds()[0][0] == pytest.approx(2.32, abs=0.12)
    assert read.info.track == 1


def test_tone_across_a_filled_hole_keeps_its_phase_clock() -> None:
    data = written("matroska", "flac", Track(tone(4.0), hole_at_s=2.0, hole_s=1.0))
    read = read_whole(data)
    assert read.seconds == pytest.approx(5.0, abs=0.05)
