"""Decoder for the formats of FFmpeg: m4a, mp4, webm, mkv, ogg, aac, wma, amr, mxf, dts and others.

`FfmpegDecoder` reads files; `ffmpeg_stream.py` reads live containers.
"""

import errno
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import av
import numpy as np
from av.codec.context import Flags2

from speechpipe.cascade.audio import AudioInfo, Wish, block_frames
from speechpipe.cascade.audio.containers import Recording
from speechpipe.cascade.audio.containers.avi import units_of_chunks
from speechpipe.cascade.audio.containers.byte_range import ByteRange
from speechpipe.cascade.audio.containers.names import CONTAINERS, INDEXED, TIMED
from speechpipe.cascade.audio.containers.packets import at_their_units, demuxed, gaps_at_page_ends, of_the_track
from speechpipe.cascade.audio.containers.stamps import (
    MOST_LEFT_OUT,
    Piece,
    ahead,
    kept_share,
    sound_s,
    speed,
    speed_notice,
    without_false_skips,
)
from speechpipe.cascade.audio.containers.timeline import MOST_S, Timeline
from speechpipe.errors import InvalidParameter, UndecodableAudio
from speechpipe.types import Notice, Samples

DEFAULT_TRACK = 0x1
ATTACHED_PICTURE = 0x400

OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}

SLACK_S = 0.3
MAX_READ_ERRORS = 50
"""After so many errors in a row in reading packets, the rest is not read: the position may not move any more.

Packets that cannot be decoded have no limit: a damaged place can be long, and each packet takes bytes of the file.
"""


class FfmpegDecoder:
    """Decodes one audio track of a file; of video only the time stamps are read."""

    gave_up_after: int | None = None

    def __init__(self, file: ByteRange, recording: Recording, wish: Wish, given: int = 0) -> None:
        """Open `recording` at its start; its first `given` frames will be skipped.

        Raises:
            UndecodableAudio: the container is not allowed, has no audio track, or none that can be decoded.
            InvalidParameter: the requested track does not exist.
        """
        window = file.window(recording.start, recording.end, recording.patches, recording.cuts)
        self._open(window, wish=wish)
        self._open_end = recording.open_end
        self._given = given
        if recording.claimed_s is not None:
            self.info: AudioInfo = replace(self.info, claimed_s=recording.claimed_s)
            self._claimed_of_sound_s = recording.claimed_s
        elif recording.kind == "mp3":  # without a number of frames in the header, but the frames were counted
            self.info = replace(self.info, claimed_s=recording.holds_s)

    def _open(self, file: Any, container: str | None = None, wish: Wish | None = None, **arguments: Any) -> None:
        self.notices: list[Notice] = []
        self._file = file
        self._open_end = False
        self._given = 0
        self._claimed_of_sound_s = self._left_out = 0.0
        options = OPTIONS | arguments.pop("options", {})
        try:
            self._container = av.open(file, mode="r", format=container, options=options, **arguments)
        except (av.FFmpegError, ValueError, OSError) as error:
            self._file.close()
            raise UndecodableAudio(f"ffmpeg: {_reason(error)}") from error
        try:
            number, self._track = self._chosen(wish)
            if isinstance(file, ByteRange) and self._container.format.name.startswith("mov"):
                self._examine_edits()
        except BaseException:
            self.close()
            raise
        self._layout = self._track.layout.name  # of the header; the track's own changes with the stream
        self._converter: av.AudioResampler | None = None
        self._shape: tuple[str, str, int] | None = None
        self._ends_s: dict[int, float] = {}  # by stream: the latest end of a packet, by its time stamps
        self._track.codec_context.thread_count = 1
        self._duration_s = self._claimed_s()
        places = tuple(channel.name for channel in self._track.layout.channels)
        self.info = AudioInfo(
            container=self._container.format.name,
            codec=self._track.codec_context.name,
            rate_hz=self._track.rate,
            channels=self._track.channels,
            claimed_s=self._possible_s(),
            layout=None if "NONE" in places else places,
            tracks=len(self._container.streams.audio),
            track=number,
        )
        self._timeline = self._new_timeline(None if wish is None else wish.max_s)

    def _claimed_s(self) -> float | None:
        duration = self._container.duration
        indexed = self._container.format.name.startswith(INDEXED)
        if not duration or duration <= 0 or not indexed:
            return None
        claimed_s = float(duration / av.time_base)
        if (
            self._container.format.name == "asf"
        ):  # FFmpeg adds the offset of a late track; the streams have the right duration
            streams = [stream for stream in self._container.streams if stream.duration and stream.time_base]
            ends_s = [float(stream.duration * stream.time_base) for stream in streams]
            return min(claimed_s, max(ends_s, default=claimed_s))
        return claimed_s

    def _possible_s(self) -> float | None:
        """Return the header's duration, limited by the samples in its index: its time base can be wrong."""
        holds_s = sound_s(self._track) if self._container.format.name.startswith("mov") else None
        return self._duration_s if holds_s is None or self._duration_s is None else min(self._duration_s, 2 * holds_s)

    def _examine_edits(self) -> None:
        """Read the file without its edit list if that would leave out nearly all of the track."""
        if self._track.frames and len(self._track.index_entries) >= self._track.frames:
            return
        plain = self._without_edits()
        if plain is None:
            return
        file, container, track = plain
        self._left_out = 1 - kept_share(self._track, track)  # of the track's bytes
        if self._left_out <= MOST_LEFT_OUT:
            container.close()
            file.close()
            return
        self._exchange(file, container, track)
        message = f"{self._left_out:.0%} of the track would be left out by the file's edit list; all of it was read"
        self.notices.append(Notice("timestamps_ignored", message))
        self._left_out = 0.0

    def _without_edits(self) -> tuple[Any, Any, Any] | None:
        """Return the file opened again without its edit list: (file, container, track); None if that fails."""
        file = self._file.again()
        try:
            container = av.open(file, mode="r", options=OPTIONS | {"ignore_editlist": "1", "advanced_editlist": "0"})
        except (av.FFmpegError, ValueError, OSError):
            file.close()
            return None
        track = container.streams[self._track.index]
        track.codec_context.thread_count = 1
        return file, container, track

    def _exchange(self, file: Any, container: Any, track: Any) -> None:
        self.close()
        self._file, self._container, self._track = file, container, track

    def _chosen(self, wish: Wish | None) -> tuple[int, Any]:
        """Return (number among the audio tracks, track): the wanted, else the default, else the first.

        Raises:
            UndecodableAudio: there is none that can be decoded.
            InvalidParameter: the wanted one does not exist.
        """
        tracks = list(self._container.streams.audio)
        if not tracks:
            raise UndecodableAudio("ffmpeg: no audio track in this file")
        wanted = None if wish is None else wish.track
        if wanted is not None:
            if wanted >= len(tracks):
                message = f"track {wanted} does not exist; the file has {len(tracks)} (0-based)"
                raise InvalidParameter(message, param="track")
            if not _decodable(tracks[wanted]):
                raise UndecodableAudio(f"audio track {wanted} cannot be decoded", cause="undecodable_track")
            return wanted, tracks[wanted]
        known = [(number, track) for number, track in enumerate(tracks) if _decodable(track)]
        if not known:
            raise UndecodableAudio("ffmpeg: no audio track that can be decoded")
        chosen = next((item for item in known if item[1].disposition & DEFAULT_TRACK), known[0])
        if len(tracks) > 1:
            message = f"{len(tracks)} audio tracks; track {chosen[0]} (0-based) was used"
            message += ", `track` selects another" if wish is not None else "; as an upload another can be selected"
            self.notices.append(Notice("audio_tracks", message))
        return chosen

    def _new_timeline(self, max_s: float | None) -> Timeline:
        """Return a timeline whose second 0 is the beginning of the file's first stream, audio or video."""
        beginnings = [
            float(stream.start_time * stream.time_base)
            for stream in (self._container.streams if self._timed else ())
            if stream.type in ("audio", "video") and not stream.disposition & ATTACHED_PICTURE and stream.time_base
            if stream.start_time is not None
        ]
        return Timeline(
            self.info.rate_hz,
            base_s=min(beginnings, default=None),
            other_streams=len(beginnings) > 1,
            end_s=self._duration_s,
            most_s=MOST_S if max_s is None else max_s,
        )

    @property
    def _timed(self) -> bool:
        return any(name in TIMED for name in self._container.format.name.split(","))

    def blocks(self) -> Iterator[Samples]:
        """Yield blocks of shape (frames, channels) until the end, or until `MAX_READ_ERRORS` come in a row."""
        size = block_frames(self.info.rate_hz, self.info.channels)
        waiting: list[Samples] = []
        held = read = 0
        for frame in self._frames():
            waiting.append(frame)
            held += len(frame)
            if held >= size:
                read += held
                yield np.concatenate(waiting)
                waiting, held = [], 0
        if held:
            read += held
            yield np.concatenate(waiting)
        self._compare_with_header()

    def _frames(self) -> Iterator[Samples]:
        """Yield the decoded pieces, (frames, channels), with silence in gaps of the time stamps."""
        for at_s, samples in self._judged_pieces():
            left_out = min(self._given, len(samples))
            self._given -= left_out
            self._timeline.skip(left_out)
            yield from self._timeline.feed(at_s, samples[left_out:])
        yield from self._timeline.finish()
        self.notices += self._timeline.notices

    def _judged_pieces(self) -> Iterator[Piece]:
        """Yield the decoded pieces, without time stamps if these cannot be true."""
        pieces = self._decoded_pieces()
        if not self._timed or not isinstance(self._file, ByteRange):
            yield from pieces
            return
        first = ahead(pieces)
        factor = speed(first, self.info.rate_hz)
        if factor is None:
            yield from first
            yield from pieces
            return
        self.notices.append(speed_notice(factor))
        self._duration_s = None
        if self._left_out and (plain := self._without_edits()) is not None:  # by the same wrong time stamps
            self._exchange(*plain)
            self._left_out, first, pieces = 0.0, [], self._decoded_pieces()
        for _, samples in chain(first, pieces):
            yield None, samples

    def _decoded_pieces(self) -> Iterator[tuple[float | None, Samples]]:
        damaged = read_errors = 0
        corrupt = False
        packets = self._packets()
        if not self._container.format.name.startswith("mov"):  # there they are a part of the edit list
            packets = without_false_skips(packets, self._track.rate, self.notices, self._skip_nothing)
        timed = self._timed
        while read_errors <= MAX_READ_ERRORS:
            try:
                read_errors += 1
                packet = next(packets, None)
                if packet is None:
                    break
                read_errors = 0
                if packet.size:  # a corrupt last packet is not counted: the file was cut off there
                    damaged += corrupt
                    corrupt = packet.is_corrupt
                frames = [(_seconds(frame) if timed else None, frame) for frame in packet.decode()]
                converted = [(at_s, samples) for at_s, frame in frames for samples in self._convert(frame)]
            except av.EOFError:
                break
            except (av.FFmpegError, OSError, ValueError):
                damaged += 1
                continue
            yield from converted
        try:
            yield from ((None, samples) for samples in self._convert(None))
        except (av.FFmpegError, ValueError):
            damaged += 1
        if damaged:
            self.notices.append(Notice("audio_damaged", f"{damaged} packets could not be decoded"))

    def _skip_nothing(self) -> None:
        self._track.codec_context.flags2 |= Flags2.skip_manual

    def _packets(self) -> Iterator[Any]:
        """Yield the packets of the track; record the latest time stamp of every stream."""
        seen = [stream for stream in self._container.streams if stream.type in ("audio", "video")]
        own = self._track.index
        packets = demuxed(self._container, seen)
        if self._container.format.name == "avi" and isinstance(self._file, ByteRange):
            packets = at_their_units(packets, own, units_of_chunks(self._file, own))
        packets = of_the_track(packets, own, self._ends_s)
        return gaps_at_page_ends(packets) if self._container.format.name == "ogg" else packets

    def _convert(self, frame: av.AudioFrame | None) -> list[Samples]:
        """Convert a frame to the header's rate and layout; None flushes the converter."""
        converted: list[Samples] = []
        shape = None if frame is None else (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:  # a stream can change its format, a converter cannot
            if self._converter is not None:
                converted = [_interleaved(item, self.info.channels) for item in self._converter.resample(None)]
            self._converter = av.AudioResampler(format="flt", layout=self._layout, rate=self.info.rate_hz)
            self._shape = shape
        if frame is not None and self._converter is not None:
            frame.pts = None  # the timeline fills gaps, not the converter
            converted += [_interleaved(item, self.info.channels) for item in self._converter.resample(frame)]
        return converted

    def _compare_with_header(self) -> None:
        """Add a notice if the file ends before its header says. Audio that ends before the video is complete."""
        missing = [self._claimed_of_sound_s - self._timeline.frames / self.info.rate_hz]
        if self._duration_s is not None and self._ends_s:
            last = max(self._ends_s.values())
            if self._container.format.name == "ogg" and len(self._ends_s) == 1 and not self._timeline.ignored:
                last = min(last, (self._timeline.base_s or 0.0) + self._timeline.frames / self.info.rate_hz)
            base = self._timeline.base_s or 0.0
            # Some headers count from zero, some from the first time stamp.
            missing.append(min(self._duration_s - last, self._duration_s - (last - base)))
            own = self._ends_s.get(self._track.index, 0.0)
            if self._container.format.name.startswith("mov") and self._track.duration:
                begin = self._track.start_time or 0
                missing.append(float((begin + self._track.duration) * self._track.time_base) - own)
        elif self._duration_s is not None:
            missing.append(self._duration_s)
        if max(missing) > SLACK_S:
            message = f"the file is {max(missing):.2f} s shorter than its header says"
            self.notices.append(Notice("audio_truncated", message))
        elif self._left_out * (sound_s(self._track) or 0.0) > SLACK_S:
            message = f"{self._left_out:.0%} of the track are left out by the file's edit list"
            self.notices.append(Notice("audio_truncated", message))
        elif self._open_end:
            self.notices.append(Notice("audio_truncated", "the stream has no end mark: the file was cut off"))

    def close(self) -> None:
        """Release the file."""
        self._container.close()
        self._file.close()


def _interleaved(frame: av.AudioFrame, channels: int) -> Samples:
    return frame.to_ndarray().astype(np.float32, copy=False).reshape(-1, channels)


def _reason(error: Exception) -> str:
    if isinstance(error, av.FFmpegError) and error.errno in (errno.EINVAL, errno.ENOENT):
        return "unknown container"  # FFmpeg's text is about files and arguments, which would mislead
    return str(getattr(error, "strerror", None) or error).rstrip(".")


def _decodable(track: Any) -> bool:
    return track.codec_context is not None and bool(track.rate) and bool(track.channels)


def _seconds(frame: av.AudioFrame) -> float | None:
    return None if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)
