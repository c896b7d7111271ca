"""Live audio: a `LiveStream` takes the bytes and commands of a connection and emits events.

`manager.py` has all streams, `executor.py` the threads that run them, `outbox.py` the messages for a client, `load.py`
the measured load. A `Dialect` converts events to the messages of a protocol.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

from speechpipe.cascade.audio.wire_format import WireFormat
from speechpipe.errors import SpeechpipeError
from speechpipe.serving.assignment import ClientRequest
from speechpipe.types import Accounting, Bundle, Notice, Utterance

Message = dict[str, Any]


@dataclass(frozen=True)
class LiveRequest(ClientRequest):
    """The request of a live client."""

    wire: WireFormat = field(kw_only=True)
    interim: bool = field(default=True, kw_only=True)
    manual: bool = field(default=False, kw_only=True)
    notices: tuple[Notice, ...] = field(default=(), kw_only=True)  # beside those of `not_honoured`


# ---- commands of a client, executed in their order between the audio ----


@dataclass(frozen=True, slots=True)
class Flush:
    """End the open segment now."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Drop the open segment."""


@dataclass(frozen=True, slots=True)
class Change:
    """Continue with another bundle's segmenter parameters after the open segment."""

    bundle: Bundle
    manual: bool


@dataclass(frozen=True, slots=True)
class Restart:
    """Begin again with another request of the same id; only before any audio."""

    request: LiveRequest


@dataclass(frozen=True, slots=True)
class Finish:
    """The audio has ended: transcribe the rest, then close the connection."""

    outcome: str = "ok"


@dataclass(frozen=True, slots=True)
class Fail:
    """As Finish, but because of an error, which is sent to the client."""

    error: SpeechpipeError


Command = Flush | Clear | Change | Restart | Finish | Fail


# ---- events for a client; seconds are on its audio clock ----


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Speech began at `start_s`, the recognizer's audio at `heard_s` (with pre-roll). Decided at `at_s`."""

    channel: int
    index: int
    start_s: float
    heard_s: float
    at_s: float
    manual: bool  # the segment ends at the client's commit
    continued: bool  # the previous segment was cut within this speech


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """The segment is complete; its Final follows. `cut` and `flushed`: the reason, if it was not silence."""

    channel: int
    index: int
    end_s: float
    at_s: float
    cut: bool
    flushed: bool


@dataclass(frozen=True, slots=True)
class Partial:
    """The text of an open segment so far, up to `until_s`; `lag_s` seconds of later audio have been received.

    Its first `stable` characters begin every later partial result of the segment.
    """

    channel: int
    index: int
    text: str
    start_s: float
    until_s: float
    lag_s: float
    stable: int = 0


@dataclass(frozen=True, slots=True)
class StableText:
    """The stable text of an open segment has grown: what was added to it."""

    channel: int
    index: int
    added: str


@dataclass(frozen=True, slots=True)
class Final:
    """The last event of a segment. The text up to `until_s` will not change."""

    channel: int
    utterance: Utterance
    flushed: bool
    at_s: float  # position at which the end was decided
    until_s: float
    latency_s: float  # wall time since that decision


@dataclass(frozen=True, slots=True)
class Settled:
    """There will be no further text up to `until_s`. `flushed`: this is the answer to a Flush."""

    channel: int
    until_s: float
    now_s: float
    flushed: bool


@dataclass(frozen=True, slots=True)
class Cleared:
    """The open segment was dropped, at `now_s`."""

    now_s: float


@dataclass(frozen=True, slots=True)
class ClockAdvanced:
    """The audio clock has reached `now_s`, and no segment is open."""

    channel: int
    now_s: float


@dataclass(frozen=True, slots=True)
class Paused:
    """No audio has arrived for `silent_s` seconds of wall time; repeated while that lasts. `now_s`: the audio clock."""

    channel: int
    now_s: float
    silent_s: float


@dataclass(frozen=True, slots=True)
class Noticed:
    """A notice about the audio, sent when it occurs."""

    notice: Notice


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event of a stream."""

    outcome: str
    duration_s: float
    sha256: str
    accounting: tuple[Accounting, ...]
    notices: tuple[Notice, ...]
    error: SpeechpipeError | None = None


Event = (
    SpeechStarted
    | SpeechEnded
    | Partial
    | StableText
    | Final
    | Settled
    | Cleared
    | ClockAdvanced
    | Paused
    | Noticed
    | Ended
)


class Dialect(Protocol):
    """Converts events to one client's protocol. Has state; used by one thread at a time."""

    def render(self, event: Event) -> list[Message]:
        """Return the messages for `event`; none if the protocol has no such message."""
        ...
