"""Media files written by FFmpeg's libraries: several tracks, late tracks, holes, video, any layout."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np

from speechpipe.types import SAMPLE_RATE_HZ, Samples

DEFAULT = av.stream.Disposition.default


@dataclass(frozen=True)
class Track:
    """One audio track: (n,) or (n, channels) samples at 16 kHz, and what is done to its time stamps."""

    samples: Samples
    starts_s: float = 0.0
    hole_at_s: float = 0.0
    hole_s: float = 0.0
    default: bool = True
    layout: str = "mono"


def written(
    form: str,
    codec: str,
    *tracks: Track,
    rate: int = 48_000,
    video_s: float = 0.0,
    options: dict[str, str] | None = None,
) -> bytes:
    """Return a file of FFmpeg's container `form`; `video_s` seconds of a moving picture beside the sound."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=form, options=options or {}) as output:
        packets: list[Any] = []
        video = _video_stream(output, form) if video_s else None
        streams = [_audio_stream(output, codec, track, rate) for track in tracks]
        if video is not None:
            packets += _pictures(video, video_s)
        for track, stream in zip(tracks, streams, strict=True):
            packets += _sound(track, stream, rate)
        for packet in sorted(packets, key=lambda item: item.dts * item.time_base):
            output.mux(packet)
    return buffer.getvalue()


def _audio_stream(output: Any, codec: str, track: Track, rate: int) -> Any:
    stream = output.add_stream(codec, rate=rate, layout=track.layout, options={"strict": "-2"})
    stream.bit_rate = 96_000
    stream.disposition = DEFAULT if track.default else av.stream.Disposition(0)
    return stream


def _video_stream(output: Any, form: str) -> Any:
    codec = {"webm": "libvpx", "flv": "flv", "mxf": "mpeg2video"}.get(form, "mpeg4")
    fast = {"deadline": "realtime", "cpu-used": "8"} if codec == "libvpx" else {}
    stream = output.add_stream(codec, rate=25 if form == "mxf" else 10, options=fast)
    stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
    if codec == "libvpx":
        stream.codec_context.thread_count = 1  # many threads take twenty times as much
    return stream


def _pictures(stream: Any, seconds: float) -> list[Any]:
    packets = []
    rate = int(stream.codec_context.framerate)
    for number in range(round(seconds * rate)):
        frame = av.VideoFrame.from_ndarray(np.full((128, 160, 3), number % 256, np.uint8), format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, rate)
        packets += stream.encode(frame)
    packets += stream.encode(None)
    return packets


def _sound(track: Track, stream: Any, rate: int) -> list[Any]:
    packed = np.ascontiguousarray(track.samples.reshape(1, -1), dtype=np.float32)
    context = stream.codec_context
    resampler = av.AudioResampler(
        format=context.format, layout=track.layout, rate=rate, frame_size=context.frame_size or 1024
    )
    frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=track.layout)
    frame.sample_rate, frame.time_base, frame.pts = SAMPLE_RATE_HZ, Fraction(1, SAMPLE_RATE_HZ), 0
    packets = []
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        packets += stream.encode(part)
    packets += stream.encode(None)
    for packet in packets:
        late_s = track.starts_s
        if track.hole_s and float(packet.pts * packet.time_base) >= track.hole_at_s:
            late_s += track.hole_s
        shift = round(late_s / packet.time_base)
        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
    return packets


def end_to_end(files: Sequence[bytes]) -> bytes:
    """Return the files put one behind the other, as `cat` does."""
    return b"".join(files)
