"""The router: chooses champion or candidate once per session, from memory and independent of the store."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.errors import InvalidParameter
from speechpipe.foundation.storage.record import Measure
from speechpipe.serving.assignment import (
    CANARY,
    CHAMPION,
    CHAMPION_NAMES,
    FAILOVER,
    MIRRORED,
    NAMED,
    ROLLOUT,
    STEP,
    UNIT,
    Choice,
    unit,
)
from speechpipe.types import Bundle, Scalar


class Experiment(Protocol):
    """A running rollout as the router sees it. Deterministic: a key always gets the same answer."""

    @property
    def id(self) -> int:
        """Number of the rollout."""
        ...

    @property
    def step(self) -> int:
        """Current step, from 0."""
        ...

    @property
    def shadows(self) -> bool:
        """Whether the candidate only receives copies of sessions."""
        ...

    def arm(self, key: str) -> str:
        """Return the arm of a routing key."""
        ...

    def mirrors(self, key: str) -> bool:
        """Whether a candidate in shadow receives a copy of a session with this key."""
        ...


@dataclass(frozen=True)
class RouteSnapshot:
    """The current routing of a server. `candidate` is None until it is warmed up on this server."""

    champion: Bundle
    rollout: Experiment | None = None
    candidate: Bundle | None = None
    shadow: Bundle | None = None  # receives copies of sessions


class Router:
    """Chooses bundles for sessions. Thread-safe: `snapshot` is only ever replaced as a whole."""

    def __init__(self, catalogue: Catalogue, champion: Bundle, alive: Callable[[Bundle], bool]) -> None:
        """Route to `champion`; `alive` returns whether a bundle has a worker that accepts jobs now."""
        self._catalogue = catalogue
        self._alive = alive
        self._lock = threading.Lock()
        self._snapshot = RouteSnapshot(champion)
        self.counts: Counter[str] = Counter()

    @property
    def snapshot(self) -> RouteSnapshot:
        """What sessions that begin now are routed by."""
        return self._snapshot

    def route_by(self, snapshot: RouteSnapshot) -> None:
        """Route sessions that begin from now on by `snapshot`; those that have begun stay where they are."""
        self._snapshot = snapshot

    def pin(self, key: str, *, returns: bool = False) -> "Assignment":
        """Return the assignment of a session with this routing key; `returns`: the key is a user's, who may return."""
        return Assignment(self, key, returns=returns)

    def choose(self, key: str, *, returns: bool = False) -> Choice:
        """Return the choice for a routing key; see `pin`."""
        snapshot = self.snapshot
        rollout = snapshot.rollout
        if rollout is None:  # blue/green steps later use the unit for their baseline
            return Choice(snapshot.champion, route={UNIT: unit(key)} if returns else {})
        facts: dict[str, Measure] = {ROLLOUT: rollout.id, STEP: rollout.step, UNIT: unit(key)}
        if rollout.shadows:
            mirrored = snapshot.shadow is not None and rollout.mirrors(key)
            return Choice(snapshot.champion, CHAMPION, facts | {MIRRORED: 1} if mirrored else {})
        if snapshot.candidate is None:  # not warmed up here yet, so the session is not in the experiment
            self._count("not_warm")
            return Choice(snapshot.champion)
        arm = rollout.arm(key)
        bundle, other = (
            (snapshot.candidate, snapshot.champion) if arm == CANARY else (snapshot.champion, snapshot.candidate)
        )
        if not self._alive(bundle) and self._alive(other):
            # The session stays on its arm and counts as failed there: leaving it out would bias the arm's rates and the
            # sample ratio.
            self._count("failover")
            return Choice(other, arm, facts | {FAILOVER: 1})
        return Choice(bundle, arm, facts)

    def changed(self, choice: Choice, changes: Mapping[str, Scalar]) -> Choice:
        """Return `choice` with a client's parameters; if the candidate does not have them, use the champion.

        Raises:
            InvalidParameter: the champion does not have them either, or a value is out of bounds.
        """
        try:
            return Choice(self._catalogue.changed(choice.bundle, changes), choice.arm, choice.route)
        except InvalidParameter:
            if choice.arm != CANARY:
                raise
            return Choice(self._catalogue.changed(self.snapshot.champion, changes))

    def _count(self, cause: str) -> None:
        with self._lock:
            self.counts[cause] += 1

    def named(self, name: str) -> Choice:
        """Return the choice of a bundle that a client names; its session is in no experiment.

        Raises:
            UnknownName: there is no such bundle, or its weights are missing.
        """
        bundle = self._catalogue.bundle(name)
        self._catalogue.require(bundle)
        return Choice(bundle, CHAMPION if bundle == self.snapshot.champion else NAMED)


class Assignment:
    """The choice for one session: made at the first call of `choose` and kept. Used by one thread at a time."""

    def __init__(self, router: Router, key: str, *, returns: bool) -> None:
        self._router = router
        self._key = key
        self._returns = returns
        self._choice: Choice | None = None

    def choose(self, name: str, changes: Mapping[str, Scalar] | None = None) -> Choice:
        """Return the choice for a session that requests the model `name`, with changed parameters.

        Raises:
            UnknownName: there is no such bundle, or its weights are missing.
            InvalidParameter: a parameter is unknown, or a value is out of bounds.
        """
        if name not in CHAMPION_NAMES:
            choice = self._router.named(name)
        else:
            if self._choice is None:
                self._choice = self._router.choose(self._key, returns=self._returns)
            choice = self._choice
        return self._router.changed(choice, changes) if changes else choice
