"""The timeline of a recording: fills gaps of a container's time stamps with silence, as far as they are plausible.

A track can begin later than the video and have gaps: a muted participant, a codec that sends nothing in silence, lost
packets. Captions have the right times only if gaps are filled. Time stamps can also be damaged or wrong; then the
samples alone determine the time.
"""

from dataclasses import dataclass, field

import numpy as np

from speechpipe.types import Notice, Samples

TOLERANCE_S = 0.2
"""Smaller differences are jitter, rounding and encoder delay."""

RESTART_S = 1.0
"""Time stamps that go back further begin a new timeline (concatenated files); smaller steps back are overlaps."""

SLIVER_S = 0.1
"""Less audio than this before a gap at the very beginning is a codec's priming."""

MOST_S = 24 * 3600.0
PIECE_S = 1.0


@dataclass
class Timeline:
    """Inserts silence in gaps of the time stamps. Feed all decoded pieces in order.

    A gap is filled if the next time stamp is consistent with it, it is not longer than `longest_gap_s`, it ends before
    `end_s` (the container's duration, if known), and the total stays within `most_s` seconds.
    """

    rate_hz: int
    base_s: float | None = None  # the time stamp of second 0; None: the first one
    other_streams: bool = False  # second 0 may be the beginning of another stream
    end_s: float | None = None
    most_s: float = MOST_S
    longest_gap_s: float = MOST_S
    frames: int = 0  # frames returned so far, including silence
    filled: int = 0  # frames of silence among them
    gaps: int = 0
    ignored: int = 0
    _worst_s: float = 0.0
    _held: list[Samples] = field(default_factory=list)
    _held_frames: int = 0
    _held_at: float = 0.0

    def limit_gaps(self, longest_s: float) -> None:
        """Believe no gap that is longer than so many seconds."""
        self.longest_gap_s = longest_s

    def skip(self, frames: int) -> None:
        """Count frames that were given out before and are not fed again."""
        self.frames += frames

    def feed(self, at_s: float | None, samples: Samples) -> list[Samples]:
        """Take (frames, channels) samples with the time stamp of the first frame; return pieces that are decided."""
        out: list[Samples] = []
        if self._held:
            if at_s is None:
                self._hold(samples)
                return out
            out += self._settle(at_s)
        if at_s is not None:
            if self.base_s is None:
                self.base_s = at_s
            ahead = at_s - self.base_s - self.frames / self.rate_hz
            if ahead > TOLERANCE_S:
                self._held_at = at_s
                self._hold(samples)
                return out
            if ahead < -RESTART_S:
                self._ignore(ahead)
        out.append(samples)
        self.frames += len(samples)
        return out

    def _hold(self, samples: Samples) -> None:
        self._held.append(samples)
        self._held_frames += len(samples)

    def _settle(self, next_s: float) -> list[Samples]:
        """Decide on the gap before the held pieces, with the time stamp after them."""
        assert self.base_s is not None
        begin = self._held_at - self.base_s
        gap_s = begin - self.frames / self.rate_hz
        consistent = next_s >= self._held_at + self._held_frames / self.rate_hz - TOLERANCE_S
        within = (
            begin <= self.most_s
            and gap_s <= self.longest_gap_s
            and (self.end_s is None or begin <= self.end_s + RESTART_S)
        )
        if not consistent or not within:
            if consistent:
                self._ignore(gap_s)  # later time stamps have the same offset
            else:
                self._note(gap_s)
            return self._released()
        if not self.other_streams and self.frames < SLIVER_S * self.rate_hz:
            self.base_s += gap_s
            return self._released()
        return self._silence(round(gap_s * self.rate_hz)) + self._released()

    def _silence(self, frames: int) -> list[Samples]:
        self.gaps += 1
        self.filled += frames
        self.frames += frames
        shape = self._held[0].shape[1]
        piece = max(1, int(self.rate_hz * PIECE_S))
        zeros = np.zeros((piece, shape), np.float32)
        count, rest = divmod(frames, piece)
        return [zeros] * count + ([zeros[:rest]] if rest else [])

    def _released(self) -> list[Samples]:
        out, self._held = self._held, []
        self.frames += self._held_frames
        self._held_frames = 0
        return out

    def _ignore(self, ahead_s: float) -> None:
        assert self.base_s is not None
        self.base_s += ahead_s
        self._note(ahead_s)

    def _note(self, ahead_s: float) -> None:
        self.ignored += 1
        if abs(ahead_s) > abs(self._worst_s):
            self._worst_s = ahead_s

    def finish(self) -> list[Samples]:
        """Return the held pieces, without filling the gap before them, as no later time stamp confirms it."""
        if self._held:
            self._note(self._held_at - (self.base_s or 0.0) - self.frames / self.rate_hz)
        return self._released()

    @property
    def notices(self) -> list[Notice]:
        """Notices about filled gaps and ignored time stamps."""
        notices = []
        if self.filled:
            where = "1 place" if self.gaps == 1 else f"{self.gaps} places"
            message = f"{self.filled / self.rate_hz:.2f} s without audio in {where}, by the container's time stamps"
            notices.append(Notice("gap_filled", f"{message}; filled with silence"))
        if self.ignored:
            times = "once" if self.ignored == 1 else f"{self.ignored} times"
            message = f"time stamps jump {times}, at most by {self._worst_s:+.1f} s; the jumps were ignored"
            notices.append(Notice("timestamps_ignored", message))
        return notices
