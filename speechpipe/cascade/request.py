"""The request for a session, and the protocol of mirrors that receive copies of sessions."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from speechpipe.cascade.asr import DecodeOptions
from speechpipe.cascade.recognition import Listener, OnUtterance
from speechpipe.cascade.session import Tap
from speechpipe.foundation.storage.record import Measure, Record
from speechpipe.types import Bundle, Utterance


@dataclass(frozen=True)
class SessionRequest:
    """Options of a session besides its bundle."""

    decode: DecodeOptions = DecodeOptions()
    spans_s: tuple[tuple[float, float], ...] | None = None  # known spans of speech, used instead of the VAD
    manual: bool = False  # segments end at `Session.flush`, and the VAD is not used
    feed_step: int = 0  # see SessionOptions
    listener: Listener | None = None
    session_id: str | None = None
    route: Mapping[str, Measure] = field(default_factory=dict)  # measures that the router adds to its records
    held: bool = False  # its audio is kept until it is decided whether a person reviews it


class Mirror(Protocol):
    """Receives copies of sessions, for example for a candidate in shadow."""

    def open(self, bundle: Bundle, request: SessionRequest) -> "Mirrored | None":
        """Return a receiver for a session's audio and utterances; None if no copy is wanted."""
        ...

    def end(self, record: Record) -> None:
        """The session of this record has ended."""
        ...


class Mirrored(Tap, Protocol):
    """A copy of one session."""

    def heard(self, utterance: Utterance) -> None:
        """Take an utterance of the original session."""
        ...


def both(first: OnUtterance, second: OnUtterance) -> OnUtterance:
    """Return a callback that calls both."""

    def call(utterance: Utterance) -> None:
        first(utterance)
        second(utterance)

    return call


def new_session_id() -> str:
    """Return a new random id, 32 hexadecimal digits."""
    return uuid.uuid4().hex
