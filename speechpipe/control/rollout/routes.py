"""The state of a route: its aliases and its rollout. Frozen; every change is a new one under the next revision."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from speechpipe.control.rollout import Mode, Status
from speechpipe.control.rollout.plan import Plan, Step, read
from speechpipe.serving.assignment import CANARY, CHAMPION


@dataclass(frozen=True)
class Rollout:
    """One rollout. Bundles are `name@version`, with the hash of everything they are made of."""

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
    step_seq: int = 0  # records up to here were before the step
    status: Status = Status.RUNNING
    reason: str = ""
    baseline: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    held: bool = False  # paused, and ends when another rollout is started

    @property
    def current(self) -> Step:
        """The step that runs."""
        return self.plan.steps[self.step]

    @property
    def weight(self) -> float:
        """Share of new sessions that the candidate answers."""
        return self.current.weight if self.status.active else 0.0

    @property
    def is_last_step(self) -> bool:
        """Whether what follows is the promotion."""
        return self.step == len(self.plan.steps) - 1

    def arm(self, key: str) -> str:
        """Return the arm of a session key: the same one for the same key while the weight does not fall below it."""
        return CANARY if position(self.salt, key) < self.weight else CHAMPION

    @property
    def shadows(self) -> bool:
        """Whether the candidate only hears copies."""
        return self.current.mode is Mode.SHADOW

    def mirrors(self, key: str) -> bool:
        """Return whether a session of this key is among those that a candidate in shadow hears."""
        return position(self.salt, key) < self.plan.mirror_share

    def document(self) -> dict[str, Any]:
        """Return it as data."""
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
    """Return where a key falls in 0..1, uniformly, and anew for every salt."""
    digest = hashlib.blake2b(key.encode(), key=salt.encode()[:64], digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


@dataclass(frozen=True)
class RouteState:
    """Who answers on a route. `revision` counts the changes: who changes an old one is told."""

    revision: int = 0
    champion: str = ""  # name@version; empty: no server has served yet
    previous: str = ""  # who served before; a rollback without a rollout goes there, and empties it
    rollout: Rollout | None = None  # the newest
    setting: str = ""  # SPEECHPIPE_BUNDLE of the server that started last
    resolved: str = ""  # name@version that this meant
    came_from: str = ""  # what the last change went back from, if it was a rollback: another one would be one too many

    @property
    def active(self) -> Rollout | None:
        """The rollout that is under way."""
        return self.rollout if self.rollout is not None and self.rollout.status.active else None

    @property
    def aliases(self) -> dict[str, str]:
        """Alias -> bundle."""
        found = {"champion": self.champion, "previous": self.previous}
        if (rollout := self.active) is not None:
            found["shadow" if rollout.current.mode is Mode.SHADOW else "challenger"] = rollout.candidate
        return {name: bundle for name, bundle in found.items() if bundle}

    def changed(self, **changes: Any) -> "RouteState":
        """Return the next one."""
        return replace(self, revision=self.revision + 1, **changes)

    def document(self) -> dict[str, Any]:
        """Return it as data."""
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
    """Return what `document` returned.

    Raises:
        BadInput, KeyError, ValueError: it is none.
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
