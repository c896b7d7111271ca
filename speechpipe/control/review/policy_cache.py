"""The automation policies and confidence calibrations of bundles, cached in a running server."""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from speechpipe.control.review.comparison import Judged
from speechpipe.control.review.operations import ReviewOperations
from speechpipe.control.review.policy_repository import Scoped, keep, kept, resolve
from speechpipe.errors import BadInput
from speechpipe.foundation.stats.calibration import LEAST, Calibration, Prior, promise
from speechpipe.serving.automation import Degree
from speechpipe.serving.automation.policy import EVERYBODY, NOT_FOLLOWED, EffectivePolicy, Policy


def no_prior(_bundle: str) -> Prior:
    """Return the calibration of a bundle that comes with none."""
    return Prior()


STANDING_S = 90 * 86_400.0
"""Calibrations are fitted on the reviews of this long."""


TRACES = ("speechpipe.db", "route.json", "reviews", "retrain")
"""Files that show that a server has used a state directory before."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Standing:
    calibration: Calibration
    threshold: float | None
    bound: float  # that the threshold was fitted for
    delta: float


class PolicyCache:
    """Thread-safe. `refresh` and `judge` raise errors of the store; all other methods use what is cached.

    The policies are those of the store once it has been read, and those of the copy in the state directory before. If
    neither can be read, the policies are unknown: `assist` applies to all tenants, or the default degree if lower.
    """

    def __init__(
        self,
        operations: ReviewOperations,
        copy: Path,
        clock: Callable[[], float],
        prior: Callable[[str], Prior] = no_prior,
    ) -> None:
        """Read the copy. The policy of a tenant for whom none was set is `operations.automation.base`.

        `prior` returns the calibration that comes with a bundle (its id); called on the thread of `judge`.
        """
        self._operations = operations
        self._copy = copy
        self._clock = clock
        self._base = operations.automation.base
        self._prior = prior
        self._standings: dict[tuple[str, str], _Standing] = {}  # by scope and bundle
        self._judged: Mapping[str, Policy] = {}  # the policies that they were fitted for
        self._newest = -1.0
        self._lock = threading.Lock()
        self._read = False  # whether the store has been read once
        careful = min(self._base.degree, Degree.ASSIST, key=list(Degree).index)
        self._careful = {EVERYBODY: Scoped(Policy(careful), 0, 0.0)}
        self._damaged = False
        try:
            known = kept(copy)
        except BadInput as error:
            log.error("%s; a reviewer is asked for every text until the store can be read", error)
            known, self._damaged = None, True
        self._known: Mapping[str, Scoped] = known or {}  # from the store or the copy
        # Without a copy this is a new server, or the copy was deleted, in which case there are other traces.
        self._unknown = self._damaged or (known is None and _has_run(copy.parent))

    @property
    def _policies(self) -> Mapping[str, Scoped]:
        return self._careful if self._unknown else self._known

    def refresh(self) -> None:
        """Read the policies from the store, and write the copy.

        Policies are never deleted, and revisions only rise. What the store has lost, or has older than this cache, is
        restored.
        """
        found = self._operations.automation.policies()
        with self._lock:
            if lost := self._lost(found):
                log.error("the store has lost the automation policies; they are restored from this server's copy")
                self._operations.automation.restore(lost)
                found = self._operations.automation.policies()
            before, self._known = self._known, found
            # A damaged copy may have had policies that an empty store has not: an operator must set them.
            self._unknown = self._damaged = self._damaged and not found
            first, self._read = not self._read, True
            if self._unknown:
                return
        changed = {scope: item.policy for scope, item in found.items()} != {
            s: item.policy for s, item in before.items()
        }
        if first or changed:
            keep(self._copy, found)

    def _lost(self, found: Mapping[str, Scoped]) -> Mapping[str, Scoped]:
        """Return the policies that this cache has and the store has not. The copy does not tell revisions."""
        if not found:
            return self._known
        none = Scoped(self._base, 0, 0.0)
        return {scope: item for scope, item in self._known.items() if item.revision > found.get(scope, none).revision}

    def judge(self) -> None:
        """Fit calibrations and thresholds if there are new answers or other policies.

        A scope's promise is about its own traffic, so each is fitted on reviews of that alone: a tenant's own policy on
        the tenant's, the default policy on those of all tenants without their own. A calibration promises nothing: it
        starts from the bundle's table, and a scope with few reviews takes that of all tenants.
        """
        newest = self._operations.task_stats.newest()
        policies = {scope: item.policy for scope, item in self._policies.items()}
        if newest == self._newest and policies == self._judged:
            return
        own: dict[tuple[str, str], list[Judged]] = defaultdict(list)
        everybody: dict[str, list[Judged]] = defaultdict(list)
        for one in self._operations.judged(self._clock() - STANDING_S):
            own[one.tenant if one.tenant in policies else EVERYBODY, one.bundle].append(one)
            everybody[one.bundle].append(one)
        found: dict[tuple[str, str], _Standing] = {}
        for bundle, reviews in everybody.items():
            prior = self._prior(bundle)
            pooled = _calibration(prior, reviews)
            for scope, policy in policies.items():
                mine = own[scope, bundle]
                promised = promise(
                    [one.confidence for one in mine], [one.wrong for one in mine], policy.bound, policy.delta
                )
                calibration = _calibration(prior, mine) if len(mine) >= LEAST else pooled
                found[scope, bundle] = _Standing(calibration, promised.threshold, policy.bound, policy.delta)
        self._standings, self._newest, self._judged = found, newest, policies

    def terms(self, tenant: str, bundle: str = "") -> EffectivePolicy:
        """Return the policy that applies to a new session of a tenant on a bundle (its id)."""
        policies = self._policies
        policy = resolve(policies, tenant)
        if policy is None:
            return NOT_FOLLOWED if self._base.degree is Degree.FULL else EffectivePolicy(self._base, followed=True)
        known = self._standings.get((tenant if tenant in policies else EVERYBODY, bundle))
        if known is None:
            return EffectivePolicy(policy, followed=True)
        fitted = (known.bound, known.delta) == (policy.bound, policy.delta)
        return EffectivePolicy(policy, known.calibration, known.threshold if fitted else None, followed=True)

    def policy(self, tenant: str) -> Policy:
        """Return the policy of a tenant."""
        return resolve(self._policies, tenant) or self._base


def _calibration(prior: Prior, reviews: Sequence[Judged]) -> Calibration:
    return prior.refined([one.confidence for one in reviews], [1 - one.wrong for one in reviews])


def _has_run(state: Path) -> bool:
    """Whether a server has used this state directory before."""
    return any((state / name).exists() for name in TRACES)
