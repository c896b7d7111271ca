"""What holds for whom, as a running server knows it: the policies, and what is known of each bundle's confidence."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from speechpipe.control.review.operations import ReviewOperations
from speechpipe.control.review.policy_repository import Scoped, keep, kept, resolve
from speechpipe.errors import BadInput
from speechpipe.foundation.stats.calibration import Calibration
from speechpipe.serving.automation import Degree
from speechpipe.serving.automation.policy import EVERYBODY, NOT_FOLLOWED, EffectivePolicy, Policy

STANDING_S = 90 * 86_400.0
"""What is known of a bundle's confidence is of so long, at most."""


TRACES = ("speechpipe.db", "route.json", "reviews", "retrain")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Standing:
    calibration: Calibration
    threshold: float | None


class PolicyCache:
    """Thread-safe. `refresh` and `judge` raise what the store raises; everything else goes on with what is known.

    The policies are those of the store, from the first time that it can be read. Before, and while it cannot be, those
    of the copy in the state directory hold. Where neither can be read nobody knows what was said: people are asked for
    everything (`assist`, or the default degree if that is lower).
    """

    def __init__(self, operations: ReviewOperations, copy: Path, clock: Callable[[], float]) -> None:
        """Read the copy. The policy of a tenant for whom none was set is `operations.automation.base`."""
        self._operations = operations
        self._copy = copy
        self._clock = clock
        self._base = operations.automation.base
        self._standings: dict[tuple[str, float, float], _Standing] = {}
        self._newest = -1.0
        self._lock = threading.Lock()
        self._read = False  # whether the store has been read
        careful = min(self._base.degree, Degree.ASSIST, key=list(Degree).index)
        self._careful = {EVERYBODY: Scoped(Policy(careful), 0, 0.0)}
        self._damaged = False
        try:
            known = kept(copy)
        except BadInput as error:
            log.error("%s; people are asked for everything until the store says what holds", error)
            known, self._damaged = None, True
        self._known: Mapping[str, Scoped] = known or {}  # of the store, or the copy
        # No copy: a server that has never run here, or one whose copy was deleted. It has left other traces then.
        self._unknown = self._damaged or (known is None and _has_run(copy.parent))

    @property
    def _policies(self) -> Mapping[str, Scoped]:
        return self._careful if self._unknown else self._known

    def refresh(self) -> None:
        """Read the policies anew, and keep a copy beside the store.

        Policies are never deleted: a store that has none of those that are known has lost them, and gets them back.
        """
        found = self._operations.automation.policies()
        with self._lock:
            if not found and self._known:
                log.error("the store has lost the degrees of automation; it gets those back that this server knows")
                self._operations.automation.restore(self._known)
                found = self._operations.automation.policies()
            before, self._known = self._known, found
            # A damaged copy may have said more than an empty store does: somebody must say what holds.
            self._unknown = self._damaged = self._damaged and not found
            first, self._read = not self._read, True
            if self._unknown:
                return
        changed = {scope: item.policy for scope, item in found.items()} != {
            s: item.policy for s, item in before.items()
        }
        if first or changed:
            keep(self._copy, found)

    def judge(self) -> None:
        """Fit what is known of each bundle's confidence, if there are new answers or other bounds."""
        newest = self._operations.task_stats.newest()
        wanted = {(item.policy.bound, item.policy.delta) for item in self._policies.values()}
        known = {(bound, delta) for _, bound, delta in self._standings}
        if newest == self._newest and wanted <= known:
            return
        found: dict[tuple[str, float, float], _Standing] = {}
        for bound, delta in wanted:
            for one in self._operations.people(self._clock() - STANDING_S, bound=bound, delta=delta).standings:
                found[one.bundle, bound, delta] = _Standing(one.calibration, one.promise.threshold)
        self._standings, self._newest = found, newest

    def terms(self, tenant: str, bundle: str = "") -> EffectivePolicy:
        """Return what holds for a new session."""
        policy = resolve(self._policies, tenant)
        if policy is None:
            return NOT_FOLLOWED if self._base.degree is Degree.FULL else EffectivePolicy(self._base, followed=True)
        known = self._standings.get((bundle, policy.bound, policy.delta))
        if known is None:
            return EffectivePolicy(policy, followed=True)
        return EffectivePolicy(policy, known.calibration, known.threshold, followed=True)

    def policy(self, tenant: str) -> Policy:
        """Return the policy of a tenant."""
        return resolve(self._policies, tenant) or self._base


def _has_run(state: Path) -> bool:
    """Whether a server has worked in a state directory before."""
    return any((state / name).exists() for name in TRACES)
