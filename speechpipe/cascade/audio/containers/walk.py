"""`recording_at`: the recording at an offset of a file, of any kind."""

from collections.abc import Callable
from dataclasses import replace

from speechpipe.cascade.audio.containers import Recording
from speechpipe.cascade.audio.containers.beginnings import begins_at, in_step
from speechpipe.cascade.audio.containers.boxes import matroska_recording, mp4_recording
from speechpipe.cascade.audio.containers.byte_range import ByteRange
from speechpipe.cascade.audio.containers.chunked import chunked_recording
from speechpipe.cascade.audio.containers.counted import counted_recording
from speechpipe.cascade.audio.containers.flac import flac_recording
from speechpipe.cascade.audio.containers.frames import ID3_HEAD_BYTES, frames_at, id3_bytes, is_id3
from speechpipe.cascade.audio.containers.leftovers import behind_tags, unread_bytes
from speechpipe.cascade.audio.containers.mpeg_audio import mpeg_recording
from speechpipe.cascade.audio.containers.ogg import ogg_recording
from speechpipe.cascade.audio.containers.signatures import kind_at, next_recording
from speechpipe.cascade.audio.containers.streams import next_stream
from speechpipe.cascade.audio.containers.transport import transport_recording

MAX_TAGS = 16
CHUNKED = ("wav", "w64", "aiff", "caf", "au")
WALKS: dict[str, Callable[[ByteRange, int], Recording]] = {
    "flac": flac_recording,
    "ogg": ogg_recording,
    "mp4": mp4_recording,
    "matroska": matroska_recording,
}


def recording_at(file: ByteRange, start: int) -> Recording:
    """Return the recording that begins at `start`; of unknown kind if no signature matches. Audio is not decoded."""
    behind = _behind_tags(file, start)
    if behind > start and not frames_at(file, behind) and begins_at(file, behind):
        start = behind
    return _without_tags(file, start)


def _without_tags(file: ByteRange, start: int) -> Recording:
    kind = kind_at(file, start)
    if kind in CHUNKED:
        return _settled(file, chunked_recording(file, start, kind))
    if kind in WALKS:
        return _settled(file, WALKS[kind](file, start))
    if kind:
        return _settled(file, counted_recording(file, start, kind))
    if in_step(file, start):
        return transport_recording(file, start)
    if frames_at(file, start):
        return mpeg_recording(file, start)
    following = next_recording(file, start + 1)
    return Recording("", start, len(file) if following is None else following, next_start=following)


def _behind_tags(file: ByteRange, at: int) -> int:
    """Return the end of the ID3v2 tags at `at`, which some programs put before files of any kind; `at` without one."""
    for _ in range(MAX_TAGS):
        if not is_id3(head := file.at(at, ID3_HEAD_BYTES)):
            break
        at += id3_bytes(head)
    return at


def _settled(file: ByteRange, recording: Recording) -> Recording:
    """Set `next_start` if a stream of frames or packets follows, which has no signature that could be searched for."""
    end = recording.end
    bound = len(file) if recording.next_start is None else recording.next_start
    if end >= bound:
        return recording
    behind = behind_tags(file, end, bound)
    stream = behind if begins_at(file, behind) else next_stream(file, behind, bound)
    if stream is None:
        return recording
    fewer = unread_bytes(file, end, bound) - unread_bytes(file, end, stream)
    return replace(recording, next_start=stream, unread=max(0, recording.unread - fewer))
