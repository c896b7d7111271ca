"""What holds for whom, as a running server knows it: the policies, and what is known of each bundle's confidence."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from speechpipe.review.automation import Scoped, keep, kept, resolve
from speechpipe.review.calibration import Calibration
from speechpipe.review.degrees import UNFOLLOWED, Policy, Terms
from speechpipe.review_desk import ReviewDesk

STANDING_S = 90 * 86_400.0
"""What is known of a bundle's confidence is of so long, at most."""


@dataclass(frozen=True)
class _Standing:
    calibration: Calibration
    threshold: float | None


class TermsBook:
    """Thread-safe. `refresh` and `judge` raise what the store raises; everything else goes on with what is known."""

    def __init__(self, desk: ReviewDesk, copy: Path, clock: Callable[[], float]) -> None:
        self._desk = desk
        self._copy = copy
        self._clock = clock
        self._policies: dict[str, Scoped] = kept(copy)
        self._standings: dict[tuple[str, float, float], _Standing] = {}
        self._newest = -1.0
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Read the policies anew, and keep a copy beside the store."""
        found = self._desk.automation.policies()
        with self._lock:
            before, self._policies = self._policies, found
        if {scope: item.policy for scope, item in found.items()} != {s: item.policy for s, item in before.items()}:
            keep(self._copy, found)

    def judge(self) -> None:
        """Fit what is known of each bundle's confidence, if there are new answers or other bounds."""
        newest = self._desk.shelf.newest()
        wanted = {(item.policy.bound, item.policy.delta) for item in self._policies.values()}
        known = {(bound, delta) for _, bound, delta in self._standings}
        if newest == self._newest and wanted <= known:
            return
        found: dict[tuple[str, float, float], _Standing] = {}
        for bound, delta in wanted:
            for one in self._desk.people(self._clock() - STANDING_S, bound=bound, delta=delta).standings:
                found[one.bundle, bound, delta] = _Standing(one.calibration, one.promise.threshold)
        self._standings, self._newest = found, newest

    def terms(self, tenant: str, bundle: str = "") -> Terms:
        """Return what holds for a new session."""
        policy = resolve(self._policies, tenant)
        if policy is None:
            return UNFOLLOWED
        known = self._standings.get((bundle, policy.bound, policy.delta))
        if known is None:
            return Terms(policy, followed=True)
        return Terms(policy, known.calibration, known.threshold, followed=True)

    def policy(self, tenant: str) -> Policy:
        """Return the policy of a tenant."""
        return resolve(self._policies, tenant) or Policy()
