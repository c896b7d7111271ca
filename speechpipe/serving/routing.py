"""Who answers a session: champion or candidate. Decided once for a session, from memory, whatever the store does."""

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
    """A rollout that is under way, as the router asks it: from memory, the same answer for the same key."""

    @property
    def id(self) -> int:
        """The rollout."""
        ...

    @property
    def step(self) -> int:
        """Its step, from 0."""
        ...

    @property
    def shadows(self) -> bool:
        """Whether the candidate only hears copies."""
        ...

    def arm(self, key: str) -> str:
        """Return the arm of a session key."""
        ...

    def mirrors(self, key: str) -> bool:
        """Return whether a session of this key is among those that a candidate in shadow hears."""
        ...


@dataclass(frozen=True)
class RouteSnapshot:
    """What a server routes by now. `candidate` is None until it is warm here."""

    champion: Bundle
    rollout: Experiment | None = None
    candidate: Bundle | None = None
    shadow: Bundle | None = None  # hears copies


class Router:
    """Thread-safe: `lane`, what it routes by, is replaced whole."""

    def __init__(self, catalogue: Catalogue, champion: Bundle, alive: Callable[[Bundle], bool]) -> None:
        """Route to `champion`; `alive` says whether a bundle has a worker that takes jobs now."""
        self._catalogue = catalogue
        self._alive = alive
        self._lock = threading.Lock()
        self._lane = RouteSnapshot(champion)
        self.counts: Counter[str] = Counter()

    @property
    def lane(self) -> RouteSnapshot:
        """What sessions that begin now are routed by."""
        return self._lane

    def route_by(self, lane: RouteSnapshot) -> None:
        """Route sessions that begin from now on by `lane`; those that have begun stay where they are."""
        self._lane = lane

    def pin(self, key: str, *, returns: bool = False) -> "Assignment":
        """Return who answers this key, the same for as long as the pin is held; `returns`: it is a user's."""
        return Assignment(self, key, returns=returns)

    def choose(self, key: str, *, returns: bool = False) -> Choice:
        """Return the arm of a key."""
        lane = self.lane
        rollout = lane.rollout
        if rollout is None:  # whose sessions these are is asked by the next blue/green
            return Choice(lane.champion, route={UNIT: unit(key)} if returns else {})
        facts: dict[str, Measure] = {ROLLOUT: rollout.id, STEP: rollout.step, UNIT: unit(key)}
        if rollout.shadows:
            mirrored = lane.shadow is not None and rollout.mirrors(key)
            return Choice(lane.champion, CHAMPION, facts | {MIRRORED: 1} if mirrored else {})
        if lane.candidate is None:  # not warm here yet: not a session of the experiment
            self._count("not_warm")
            return Choice(lane.champion)
        arm = rollout.arm(key)
        bundle, other = (lane.candidate, lane.champion) if arm == CANARY else (lane.champion, lane.candidate)
        if not self._alive(bundle) and self._alive(other):
            # It stays on the arm that it was drawn for, and counts as failed there: to leave it out would make the arm
            # look better, and the split look wrong.
            self._count("failover")
            return Choice(other, arm, facts | {FAILOVER: 1})
        return Choice(bundle, arm, facts)

    def changed(self, choice: Choice, changes: Mapping[str, Scalar]) -> Choice:
        """Return `choice` with parameters of a client's own; those that the candidate has not are the champion's."""
        try:
            return Choice(self._catalogue.changed(choice.bundle, changes), choice.arm, choice.route)
        except InvalidParameter:
            if choice.arm != CANARY:
                raise
            return Choice(self._catalogue.changed(self.lane.champion, changes))

    def _count(self, cause: str) -> None:
        with self._lock:
            self.counts[cause] += 1

    def named(self, name: str) -> Choice:
        """Return a bundle that a client names: it is not part of any experiment.

        Raises:
            UnknownName: there is none, or its weights are not here.
        """
        bundle = self._catalogue.bundle(name)
        self._catalogue.require(bundle)
        return Choice(bundle, CHAMPION if bundle == self.lane.champion else NAMED)


class Assignment:
    """A session's place: chosen when first asked, and never again."""

    def __init__(self, router: Router, key: str, *, returns: bool) -> None:
        self._router = router
        self._key = key
        self._returns = returns
        self._choice: Choice | None = None

    def choose(self, name: str, changes: Mapping[str, Scalar] | None = None) -> Choice:
        """Return what answers a session that asks for the model `name`, with parameters changed for it.

        Raises:
            UnknownName: no such bundle, or its weights are not here.
            InvalidParameter: an unknown parameter, or a value out of bounds.
        """
        if name not in CHAMPION_NAMES:
            choice = self._router.named(name)
        else:
            if self._choice is None:
                self._choice = self._router.choose(self._key, returns=self._returns)
            choice = self._choice
        return self._router.changed(choice, changes) if changes else choice
