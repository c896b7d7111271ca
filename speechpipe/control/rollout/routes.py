"""The immutable state of the route: its champion, aliases and rollout."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from speechpipe.control.rollout import Mode, Status
from speechpipe.control.rollout.plan import Plan, Step, read
from speechpipe.serving.assignment import CANARY, CHAMPION


@dataclass(frozen=True)
class Rollout:
    """A rollout. Bundles are `name@version`; `candidate_hash` covers all files of the candidate."""

    id: int
    plan: Plan
    candidate: str
    candidate_hash: str
    champion: str
    salt: str
    by: str
    started_at: float
    step: int = 0
    step_at: float = 0.0
    step_seq: int = 0  # the last record before the step
    status: Status = Status.RUNNING
    reason: str = ""
    baseline: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    held: bool = False  # paused, and ended when another rollout starts

    @property
    def current(self) -> Step:
        """The current step."""
        return self.plan.steps[self.step]

    @property
    def weight(self) -> float:
        """Share of new sessions that the candidate answers."""
        return self.current.weight if self.status.active else 0.0

    @property
    def is_last_step(self) -> bool:
        """Whether the promotion comes next."""
        return self.step == len(self.plan.steps) - 1

    def arm(self, key: str) -> str:
        """Return the arm of a session key. It stays the same as long as the weight does not fall."""
        return CANARY if position(self.salt, key) < self.weight else CHAMPION

    @property
    def shadows(self) -> bool:
        """Whether the candidate only gets copies of sessions."""
        return self.current.mode is Mode.SHADOW

    def mirrors(self, key: str) -> bool:
        """Whether sessions with this key are copied to a candidate in shadow."""
        return position(self.salt, key) < self.plan.mirror_share

    def document(self) -> dict[str, Any]:
        """Return the rollout as JSON data."""
        return {
            "id": self.id,
            "plan": self.plan.document(),
            "candidate": self.candidate,
            "candidate_hash": self.candidate_hash,
            "champion": self.champion,
            "salt": self.salt,
            "by": self.by,
            "started_at": self.started_at,
            "step": self.step,
            "step_at": self.step_at,
            "step_seq": self.step_seq,
            "status": self.status.value,
            "reason": self.reason,
            "baseline": {name: list(counts) for name, counts in self.baseline.items()},
            "held": self.held,
        }


def position(salt: str, key: str) -> float:
    """Return a number in 0..1 for a key, uniform and independent for every salt."""
    digest = hashlib.blake2b(key.encode(), key=salt.encode()[:64], digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


@dataclass(frozen=True)
class RouteState:
    """Immutable routing state. Writes compare-and-swap on `revision`."""

    revision: int = 0
    champion: str = ""  # name@version; empty: no server has used this store yet
    previous: str = ""  # the champion before; a rollback without a rollout goes there and empties it
    rollout: Rollout | None = None  # the newest
    setting: str = ""  # SPEECHPIPE_BUNDLE of the server that started last
    resolved: str = ""  # the name@version that it resolved to
    came_from: str = ""  # the bundle that the last change went back from, if it was a rollback; prevents a second one

    @property
    def active(self) -> Rollout | None:
        """The rollout in progress, or None."""
        return self.rollout if self.rollout is not None and self.rollout.status.active else None

    @property
    def aliases(self) -> dict[str, str]:
        """Alias -> bundle (name@version)."""
        found = {"champion": self.champion, "previous": self.previous}
        if (rollout := self.active) is not None:
            found["shadow" if rollout.current.mode is Mode.SHADOW else "challenger"] = rollout.candidate
        return {name: bundle for name, bundle in found.items() if bundle}

    def changed(self, **changes: Any) -> "RouteState":
        """Return the next state, with these changes."""
        return replace(self, revision=self.revision + 1, **changes)

    def document(self) -> dict[str, Any]:
        """Return the state as JSON data."""
        return {
            "revision": self.revision,
            "champion": self.champion,
            "previous": self.previous,
            "rollout": self.rollout.document() if self.rollout is not None else None,
            "setting": self.setting,
            "resolved": self.resolved,
            "came_from": self.came_from,
        }


def load(data: Mapping[str, Any], known_guards: Mapping[str, float]) -> RouteState:
    """Return the state that `document` was called on.

    Raises:
        BadInput, KeyError, ValueError: `data` is not such a document.
    """
    found = data.get("rollout")
    rollout = None
    if found is not None:
        plan = read(found["plan"], dict(known_guards) | dict(found["plan"].get("guards", {})))
        baseline = {name: (int(pair[0]), int(pair[1])) for name, pair in found["baseline"].items()}
        names = ("id", "candidate", "candidate_hash", "champion", "salt", "by", "started_at", "step", "step_at")
        plain = {name: found[name] for name in (*names, "step_seq", "reason")}
        status, held = Status(found["status"]), bool(found.get("held", False))
        rollout = Rollout(**plain, plan=plan, status=status, baseline=baseline, held=held)
    newer = {name: data.get(name, "") for name in ("setting", "resolved", "came_from")}  # older versions wrote none
    return RouteState(int(data["revision"]), data["champion"], data["previous"], rollout, **newer)
