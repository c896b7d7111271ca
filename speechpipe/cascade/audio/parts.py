"""Several recordings in one file, read one after the other (files that were simply concatenated)."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from speechpipe.cascade.audio import AudioDecoder, Wish, open_beyond, open_recording
from speechpipe.cascade.audio.containers import Recording
from speechpipe.cascade.audio.containers.byte_range import ByteRange
from speechpipe.cascade.audio.containers.leftovers import unread_bytes
from speechpipe.cascade.audio.containers.walk import recording_at
from speechpipe.errors import BadInput, EmptyAudio
from speechpipe.types import Notice

MAX_PARTS = 1_000
LEAST_UNREAD = 256
"""Fewer unread bytes are not reported: they can be a line end or an unknown tag, but not audio."""

LEAST_BYTES_PER_S = 16
"""Every speech codec needs more, even in silence; used to limit the duration that a header claims."""

MAX_UNREADABLE = 16
"""After so many parts that no decoder can read, the rest of the file is skipped."""


def open_bytes(file: BinaryIO) -> ByteRange:
    """Return a complete open file as a `ByteRange` with its own descriptor.

    A `SpooledTemporaryFile` that is in memory is copied to anonymous memory, not to disk (Linux).

    Raises:
        EmptyAudio: the file has no bytes.
    """
    size = file.seek(0, 2)
    if size == 0:
        raise EmptyAudio("the file is empty (0 bytes)", cause="empty_file")
    file.seek(0)
    if not getattr(file, "_rolled", True) and hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("upload")
        with os.fdopen(os.dup(descriptor), "wb") as memory:
            memory.write(file.read())
        return ByteRange(descriptor, 0, size)
    return ByteRange(os.dup(file.fileno()), 0, size)


class Parts:
    """The recordings of a file. The first is opened at once, the others during iteration; one is open at a time."""

    def __init__(self, file: BinaryIO, wish: Wish) -> None:
        """Open the first recording.

        Raises:
            EmptyAudio, UndecodableAudio, InvalidParameter: as `open_recording`.
        """
        self._file = open_bytes(file)
        self._wish_now = wish
        self._told: list[Notice] = []
        self._unread = 0
        self._read = 0
        try:
            self._recording = recording_at(self._file, 0)
            self._decoder = open_recording(self._file, self._recording, wish)
        except BaseException:
            self._file.close()
            raise
        self.info = self._decoder.info

    @property
    def believed_s(self) -> float:
        """Duration in seconds that the first recording claims, limited by what its bytes can contain."""
        holds_s = self._recording.holds_s
        if holds_s is None:
            holds_s = (self._recording.end - self._recording.start) / LEAST_BYTES_PER_S
        return min(self.info.claimed_s or 0.0, holds_s)

    def again(self) -> AudioDecoder:
        """Reopen the current recording at its start and return its decoder."""
        self._decoder.close()
        self._decoder = open_recording(self._file, self._recording, self._wish_now)
        return self._decoder

    def __iter__(self) -> Iterator[AudioDecoder]:
        """Yield the open decoder of each recording, in the order of the file."""
        unreadable = 0
        while True:
            self._read += 1
            yield self._decoder
            if (beyond := self._beyond_damage()) is not None:
                yield beyond
            self._close_part(self._recording)
            while True:
                if (start := self._recording.next_start) is None:
                    return
                if self._read >= MAX_PARTS or unreadable >= MAX_UNREADABLE:
                    self._unread += len(self._file) - start
                    return
                self._recording = recording_at(self._file, start)
                self._wish_now = Wish(None, self._wish_now.max_s)
                try:
                    self._decoder = open_recording(self._file, self._recording, self._wish_now)
                    break
                except BadInput:
                    unreadable += 1
                    self._leave(self._recording)

    def _beyond_damage(self) -> AudioDecoder | None:
        """Return FFmpeg's decoder from where libsndfile gave up, as it can skip to the next intact block; else None."""
        given = self._decoder.gave_up_after
        if given is None or not given:
            return None
        info = self._decoder.info
        try:
            beyond = open_beyond(self._file, replace(self._recording, claimed_s=info.claimed_s), given)
        except BadInput:
            return None
        if (beyond.info.rate_hz, beyond.info.channels) != (info.rate_hz, info.channels):
            beyond.close()
            return None
        # What is missing is known when FFmpeg has read the rest.
        self._told += [item for item in self._decoder.notices if item.code != "audio_truncated"]
        self._decoder.close()
        self._decoder = beyond
        return beyond

    def _close_part(self, recording: Recording) -> None:
        self._told += [*recording.notices, *self._decoder.notices]
        self._unread += recording.unread
        self._decoder.close()

    def _leave(self, recording: Recording) -> None:
        self._unread += unread_bytes(self._file, recording.start, recording.end) + recording.unread

    @property
    def notices(self) -> list[Notice]:
        """Notices for the client, one for each code; complete once the iteration has ended."""
        first: dict[str, Notice] = {}
        count = Counter(item.code for item in self._told)
        for item in self._told:
            first.setdefault(item.code, item)
        if self._unread >= LEAST_UNREAD:
            message = f"{self._unread} bytes of the file are not a readable recording and were left out"
            first.setdefault("audio_truncated", Notice("audio_truncated", message))
        if self._read > 1:
            message = f"{self._read} recordings follow each other in this file; their times continue"
            first["several_recordings"] = Notice("several_recordings", message)
        return [
            item if count[code] < 2 else Notice(code, f"{item.message} (and {count[code] - 1} more)")
            for code, item in first.items()
        ]

    def close(self) -> None:
        """Release the file; may be called twice."""
        self._decoder.close()
        self._file.close()
