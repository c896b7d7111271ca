"""Who answers a session: a bundle, the arm of an experiment that it is on, and what its records say of that."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from speechpipe.foundation.storage.record import Measure
from speechpipe.types import Bundle

CHAMPION_NAMES = ("default", "whisper-1")
"""Model names that clients send without choosing; both mean whoever the route says."""

CHAMPION, CANARY, SHADOW = "champion", "canary", "shadow"
"""Arms, as records carry them."""

NAMED = "named"
"""The arm of sessions whose client named a bundle that is not the champion: of no experiment."""

ROLLOUT, STEP, UNIT = "route.rollout", "route.step", "route.unit"
"""Measures by which a record says to which experiment it belongs; `UNIT` is who was randomised."""

MIRRORED = "route.mirrored"
"""A candidate in shadow hears a copy."""

FAILOVER = "route.failover"
"""The other arm answered: this one had no worker."""


@dataclass(frozen=True)
class Choice:
    """The bundle that a session is pinned to, the arm it is on, and what its records say of that."""

    bundle: Bundle
    arm: str = CHAMPION
    route: Mapping[str, Measure] = field(default_factory=dict)


def unit(key: str) -> str:
    """Return the digest by which records say who was randomised: never the key."""
    return hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
