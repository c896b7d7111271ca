"""Live audio. The bytes of a connection go into a `LiveStream`, what happens to them comes out as events.

`manager.py` holds the streams, `executor.py` the threads that run them, `outbox.py` what each client is still to be
told, `load.py` what the machine can still take. How events look on the wire is a `Dialect`'s business.
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
    """What a client asked for when it connected."""

    wire: WireFormat = field(kw_only=True)
    interim: bool = field(default=True, kw_only=True)
    manual: bool = field(default=False, kw_only=True)
    notices: tuple[Notice, ...] = field(default=(), kw_only=True)  # beside those of `not_honoured`


# ---- what a client may want besides sending audio; obeyed in its place between the audio ----


@dataclass(frozen=True, slots=True)
class Flush:
    """End the open segment now."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Forget the open segment."""


@dataclass(frozen=True, slots=True)
class Change:
    """Go on with another bundle's segmenter parameters, from the end of the open segment."""

    bundle: Bundle
    manual: bool


@dataclass(frozen=True, slots=True)
class Restart:
    """Begin again as another request of the same id; only before any audio."""

    request: LiveRequest


@dataclass(frozen=True, slots=True)
class Finish:
    """No more audio comes: transcribe what there is, then say goodbye."""

    outcome: str = "ok"


@dataclass(frozen=True, slots=True)
class Fail:
    """As Finish, but because of an error, which the client is told."""

    error: SpeechpipeError


Command = Flush | Clear | Change | Restart | Finish | Fail


# ---- what a client is told; seconds are on its audio clock ----


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Speech began at `start_s`; the recognizer hears from `heard_s` on. Decided at `at_s`."""

    channel: int
    index: int
    start_s: float
    heard_s: float
    at_s: float
    manual: bool  # the client says where it ends
    continued: bool  # the same speech goes on after a cut


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """The segment is complete; its Final follows. `cut` and `flushed`: not because of silence."""

    channel: int
    index: int
    end_s: float
    at_s: float
    cut: bool
    flushed: bool


@dataclass(frozen=True, slots=True)
class Partial:
    """The text of an open segment so far; `lag_s` of received audio are not in it."""

    channel: int
    index: int
    text: str
    start_s: float
    until_s: float
    lag_s: float


@dataclass(frozen=True, slots=True)
class Final:
    """The terminal event of a segment. Nothing up to `until_s` will change."""

    channel: int
    utterance: Utterance
    flushed: bool
    at_s: float  # where on the audio clock the end was decided
    until_s: float
    latency_s: float  # from that decision to now


@dataclass(frozen=True, slots=True)
class Settled:
    """There is no speech up to `until_s` beyond what was said. `flushed`: the answer to a Flush."""

    channel: int
    until_s: float
    now_s: float
    flushed: bool


@dataclass(frozen=True, slots=True)
class Cleared:
    """What was open is forgotten, up to `now_s` on the audio clock."""

    now_s: float


@dataclass(frozen=True, slots=True)
class ClockAdvanced:
    """The audio clock moved to `now_s`, and no speech is open."""

    channel: int
    now_s: float


@dataclass(frozen=True, slots=True)
class Paused:
    """No audio has come for `silent_s` seconds of wall time; said again while it lasts. `now_s`: the audio clock."""

    channel: int
    now_s: float
    silent_s: float


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something about the audio that the client should know, now rather than at the end."""

    notice: Notice


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event."""

    outcome: str
    duration_s: float
    sha256: str
    accounting: tuple[Accounting, ...]
    notices: tuple[Notice, ...]
    error: SpeechpipeError | None = None


Event = SpeechStarted | SpeechEnded | Partial | Final | Settled | Cleared | ClockAdvanced | Paused | Noticed | Ended


class Dialect(Protocol):
    """How events are said to one client; has state, is used by one thread at a time."""

    def render(self, event: Event) -> list[Message]:
        """Return the messages that say `event`; none where this dialect has no word for it."""
        ...
