"""Tests whether a container's times can be true: the rate of its time stamps, its edit list, its skipped samples.

A time base, an edit list or a pre-skip that is wrong would hide audio or stretch it with silence.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from speechpipe.types import Notice, Samples

Piece = tuple[float | None, Samples]

MOST_PIECES = 512
MOST_VALUES = 2**21
"""Most pieces and values (8 MiB of float32) that are decoded before the time stamps are judged."""

WINDOW_S = 0.5
TOLERANCE_S = 0.2
LEAST_TRUE = 0.1
"""Least share of windows of `WINDOW_S` of sound whose time stamps advance by as much.

Codecs that send nothing in silence and lost packets make gaps, but not in nearly every half second.
"""
SURELY_S = 60.0
"""A single window is enough if its time stamps are wrong by this much."""

MOST_LEFT_OUT = 0.85
"""An edit list that leaves out more than this share of a track's bytes is not believed."""

MOST_SKIPPED_S = 0.3
"""Codecs need about a quarter of a second before the first sample at most (AAC at 8 kHz)."""


def ahead(pieces: Iterator[Piece]) -> list[Piece]:
    """Return the pieces by which the time stamps can be judged; the others stay in the iterator."""
    taken: list[Piece] = []
    values = 0
    for piece in pieces:
        taken.append(piece)
        values += piece[1].size
        if len(taken) >= MOST_PIECES or values >= MOST_VALUES:
            break
    return taken


def speed(pieces: Sequence[Piece], rate_hz: int) -> float | None:
    """Return how many seconds of time stamps pass in a second of sound if that cannot be true; None if it can."""
    windows, true = 0, 0
    begin: float | None = None
    sound_s = stamps_all = sound_all = worst_s = 0.0
    for at_s, samples in pieces:
        if at_s is not None and begin is not None and sound_s >= WINDOW_S:
            windows += 1
            off_s = at_s - begin - sound_s
            true += abs(off_s) < TOLERANCE_S
            worst_s = max(worst_s, abs(off_s))
            stamps_all, sound_all = stamps_all + at_s - begin, sound_all + sound_s
            begin, sound_s = at_s, 0.0
        elif begin is None:
            begin, sound_s = at_s, 0.0
        sound_s += len(samples) / rate_hz
    if not windows or true >= LEAST_TRUE * windows or (windows == 1 and worst_s < SURELY_S):
        return None
    return stamps_all / sound_all


def speed_notice(factor: float) -> Notice:
    """Return the notice that all time stamps were ignored."""
    message = f"the time stamps run at {factor:.3g} times the speed of the audio; all of them were ignored"
    return Notice("timestamps_ignored", message)


def without_false_skips(
    packets: Iterator[Any], rate_hz: int, notices: list[Notice], skip_nothing: Callable[[], None]
) -> Iterator[Any]:
    """Yield the packets; call `skip_nothing` before the first whose skipped samples cannot be true.

    These are more than `MOST_SKIPPED_S`, or samples at the end of more than one packet.
    """
    trimmed = 0
    believed = True
    for packet in packets:
        if believed and packet.has_sidedata("skip_samples"):
            skipped = bytes(packet.get_sidedata("skip_samples"))
            first, last = (int.from_bytes(skipped[at : at + 4], "little") for at in (0, 4))
            trimmed += last > 0
            seconds = max(first, last) / rate_hz
            if seconds > MOST_SKIPPED_S or trimmed > 1:
                believed = False
                skip_nothing()
            if seconds > MOST_SKIPPED_S:
                message = f"the container says that {seconds:.2f} s at one place are not to be heard; they were read"
                notices.append(Notice("timestamps_ignored", message))
        yield packet


def sound_s(track: Any) -> float | None:
    """Return the seconds of sound in the index of a track of MP4, by the number of its samples; None if not known."""
    context = track.codec_context
    size = 1 if context.name.startswith("pcm_") else context.frame_size
    return float(track.frames * size / track.rate) if track.frames and size and track.rate else None


def kept_share(track: Any, without_edits: Any) -> float:
    """Return the share of a track's bytes that its edit list keeps; `without_edits` is the track read without it."""
    whole = sum(entry.size for entry in without_edits.index_entries)
    return sum(entry.size for entry in track.index_entries) / whole if whole else 1.0
