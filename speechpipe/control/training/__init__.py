"""Retraining: from what people have reviewed to a new version of a model, which enters at shadow.

What trains: `ctc`, `lm`, `vad`. What runs it: `work`, a process of its own at lowest priority; `runner` starts, follows
and stops it; `preparing` gathers what it learns from; `candidate` makes cards of what comes out; `archive` keeps the
jobs; `policy` says when one begins by itself; `operations` puts them together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What is retrained."""

    LM = "lm"  # PocketSphinx's language model and dictionary
    CTC = "ctc"  # a CTC network, and the words that it may say
    VAD = "vad"  # what is decided on a VAD's scores


class State(StrEnum):
    """Where a retraining stands."""

    WAITING = "waiting"  # nobody has begun
    RUNNING = "running"
    DONE = "done"  # the outcome says what came of it
    FAILED = "failed"
    STOPPED = "stopped"  # by somebody; it can go on

    @property
    def over(self) -> bool:
        """Whether nobody works on it, nor will."""
        return self in (State.DONE, State.FAILED, State.STOPPED)


class Judgement(StrEnum):
    """A candidate beside what it was retrained from, on reviews that neither has learnt from."""

    BETTER = "better"
    NO_BETTER = "no_better"
    WORSE = "worse"


REVIEWS = "reviews"
"""The source that is what people have answered; any other is a manifest."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for. `bundle` is name@version; `check`: a manifest of speech that must not become worse."""

    kind: Kind
    bundle: str
    source: str = REVIEWS
    tenant: str = ""  # empty: all
    since: float = 0.0  # unix seconds: reviews from then on
    check: str = ""
    replay: str = ""  # a manifest of what was learnt before, learnt again beside the new
    pronunciations: str = ""
    seed: int = 0
    by: str = ""
    reason: str = ""
    plan: str = ""  # of the rollout that follows: a file, whose candidate is put in
    approval: str = "promotion"  # without a plan: who is asked
    budget_s: float = 0.0  # 0: as long as it takes

    def document(self) -> dict[str, Any]:
        """Return it as data."""
        return {name: getattr(self, name) for name in self.__slots__} | {"kind": self.kind.value}


def read_request(data: Mapping[str, Any]) -> Request:
    """Return what `document` returned."""
    return Request(**{**data, "kind": Kind(data["kind"])})


@dataclass(frozen=True, slots=True)
class Job:
    """One retraining. `beat_at`: when its owner last said that it is at work."""

    id: int
    request: Request
    state: State
    revision: int
    created_at: float
    changed_at: float
    owner: str = ""
    beat_at: float = 0.0
    outcome: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
