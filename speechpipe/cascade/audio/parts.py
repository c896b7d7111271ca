"""The recordings of one file, one after the other: recorders that split and tools that join simply append files."""

import os
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from speechpipe.cascade.audio import AudioDecoder, Wish, open_beyond, open_recording
from speechpipe.cascade.audio.containers import Recording
from speechpipe.cascade.audio.containers.byte_range import ByteRange
from speechpipe.cascade.audio.containers.leftovers import is_ignored
from speechpipe.cascade.audio.containers.walk import recording_at
from speechpipe.errors import BadInput, EmptyAudio
from speechpipe.types import Notice

MAX_PARTS = 1_000
LEAST_UNREAD = 256
"""Fewer bytes are a line's end or an odd tag, not sound."""

LEAST_BYTES_PER_S = 16
"""Speech codecs that send least in silence need more; a header that claims more seconds exaggerates."""

MAX_UNREADABLE = 16
"""Parts that no decoder reads; behind so many, the rest of the file is not looked at."""


def open_bytes(file: BinaryIO) -> ByteRange:
    """Return the whole of an open file with a descriptor of one's own.

    A `SpooledTemporaryFile` that is still in memory stays there: it needs no disk.

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
    """Opens the first recording at once, the others when their turn comes. One is open at a time."""

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
        """Seconds that the first recording says it has, as far as its bytes can hold them."""
        holds_s = self._recording.holds_s
        if holds_s is None:
            holds_s = (self._recording.end - self._recording.start) / LEAST_BYTES_PER_S
        return min(self.info.claimed_s or 0.0, holds_s)

    def again(self) -> AudioDecoder:
        """Return the decoder of the recording whose turn it is, at its start again."""
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
        """Return FFmpeg at the place where libsndfile gave up: it looks for the next block that is whole."""
        given = self._decoder.gave_up_after
        if given is None or not given:
            return None
        info = self._decoder.info
        try:
            beyond = open_beyond(self._file, self._recording, given)
        except BadInput:
            return None
        if (beyond.info.rate_hz, beyond.info.channels) != (info.rate_hz, info.channels):
            beyond.close()
            return None
        self._told += self._decoder.notices
        self._decoder.close()
        self._decoder = beyond
        return beyond

    def _close_part(self, recording: Recording) -> None:
        self._told += [*recording.notices, *self._decoder.notices]
        self._unread += recording.unread
        self._decoder.close()

    def _leave(self, recording: Recording) -> None:
        if not is_ignored(self._file, recording.start, recording.end):
            self._unread += recording.end - recording.start + recording.unread

    @property
    def notices(self) -> list[Notice]:
        """What a listener should know; complete once the iteration has ended. One notice for each code."""
        first: dict[str, Notice] = {}
        count = Counter(item.code for item in self._told)
        for item in self._told:
            first.setdefault(item.code, item)
        if self._unread >= LEAST_UNREAD:
            message = f"{self._unread} bytes of the file are no recording that can be read; they were left out"
            first.setdefault("audio_truncated", Notice("audio_truncated", message))
        if self._read > 1:
            message = f"{self._read} recordings stand end to end in this file; times go on from one to the next"
            first["several_recordings"] = Notice("several_recordings", message)
        return [
            item if count[code] < 2 else Notice(code, f"{item.message} (and {count[code] - 1} more)")
            for code, item in first.items()
        ]

    def close(self) -> None:
        """Release the file; may be called twice."""
        self._decoder.close()
        self._file.close()
