"""Retraining: from reviewed sessions to a new version of a model, whose rollout starts in shadow.

`ctc`, `lm` and `vad_fit` train; `process` runs them in a process of its own at the lowest priority; `runner` starts,
follows and stops it; `dataset` collects the training data; `candidate` makes the new cards; `repository` stores the
jobs; `policy` decides when one starts automatically; `operations` combines them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What is retrained."""

    LM = "lm"  # PocketSphinx's language model and dictionary
    CTC = "ctc"  # a CTC network and its lexicon
    VAD = "vad"  # the segmenter's parameters for a VAD's scores


class State(StrEnum):
    """The state of a retraining."""

    WAITING = "waiting"  # for a server or the command line to start it
    RUNNING = "running"
    DONE = "done"  # `outcome` has the result
    FAILED = "failed"
    STOPPED = "stopped"  # by an operator or the budget; it can be continued

    @property
    def over(self) -> bool:
        """Whether it is neither running nor waiting."""
        return self in (State.DONE, State.FAILED, State.STOPPED)


class Judgement(StrEnum):
    """A candidate compared with the model it was retrained from, on reviews that neither was trained on."""

    BETTER = "better"
    NO_BETTER = "no_better"
    WORSE = "worse"


REVIEWS = "reviews"
"""The source that means answered reviews; any other is a manifest."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request for a retraining. `bundle` is name@version; `check`: a manifest of speech that must not get worse."""

    kind: Kind
    bundle: str
    source: str = REVIEWS
    tenant: str = ""  # empty: all
    since: float = 0.0  # unix seconds: reviews from then on are used
    check: str = ""
    replay: str = ""  # a manifest of earlier training data, which is mixed in
    pronunciations: str = ""
    seed: int = 0
    by: str = ""
    reason: str = ""
    plan: str = ""  # path of the plan of the rollout that follows; its candidate is replaced
    approval: str = "promotion"  # without a plan: what an operator must approve
    budget_s: float = 0.0  # 0: unlimited

    def document(self) -> dict[str, Any]:
        """Return the request as JSON data."""
        return {name: getattr(self, name) for name in self.__slots__} | {"kind": self.kind.value}


def read_request(data: Mapping[str, Any]) -> Request:
    """Return the request that `document` was called on."""
    return Request(**{**data, "kind": Kind(data["kind"])})


@dataclass(frozen=True, slots=True)
class Job:
    """A retraining. `beat_at`: the last heartbeat of its owner (unix seconds)."""

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
