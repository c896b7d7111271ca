"""What a session is asked for beyond its bundle, and who may hear a copy of it."""

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
    """What a session may choose beyond its bundle."""

    decode: DecodeOptions = DecodeOptions()
    spans_s: tuple[tuple[float, float], ...] | None = None  # known speech; VAD is then not asked
    manual: bool = False  # segments end when `Session.flush` says so; VAD is then not asked either
    feed_step: int = 0  # see SessionOptions
    listener: Listener | None = None
    session_id: str | None = None
    route: Mapping[str, Measure] = field(default_factory=dict)  # what the router says of it
    held: bool = False  # its audio is kept until it is known whether a person must hear it


class Mirror(Protocol):
    """Whoever hears copies of sessions."""

    def open(self, bundle: Bundle, request: SessionRequest) -> "Mirrored | None":
        """Return what takes a session's audio and utterances; None if it is not wanted."""
        ...

    def end(self, record: Record) -> None:
        """Note that the session of this record is over."""
        ...


class Mirrored(Tap, Protocol):
    """A copy of one session."""

    def heard(self, utterance: Utterance) -> None:
        """Take what the served session says."""
        ...


def both(first: OnUtterance, second: OnUtterance) -> OnUtterance:
    """Return a callback that calls both."""

    def call(utterance: Utterance) -> None:
        first(utterance)
        second(utterance)

    return call


def new_session_id() -> str:
    """Return a fresh id."""
    return uuid.uuid4().hex
