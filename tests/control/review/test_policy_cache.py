"""Whose reviews say what: thresholds are a scope's own, calibrations may begin with the recognizer's table."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from speechpipe.control.review.comparison import Judged
from speechpipe.control.review.operations import ReviewOperations
from speechpipe.control.review.policy_cache import PolicyCache
from speechpipe.foundation.stats.calibration import Calibration, Prior
from speechpipe.foundation.storage.store import Store
from tests.databases import place_tables

BUNDLE = "default@1"
SHIPPED = Prior(Calibration((0.2, 0.8), (0.4, 0.9)), (0.5, 0.5))


class Cache:
    """A `PolicyCache` on a store with policies, with reviews that a test sets."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store = Store(place_tables(folder / "speechpipe.db"))
        operations = ReviewOperations(store, lambda: 1000.0)
        self.policies = operations.automation
        self.reviews: list[Judged] = []
        monkeypatch.setattr(operations, "judged", lambda _: iter(self.reviews))
        monkeypatch.setattr(operations.task_stats, "newest", lambda: float(len(self.reviews)))
        self.cache = PolicyCache(
            operations, folder / "automation.json", lambda: 1000.0, lambda name: SHIPPED if name == BUNDLE else Prior()
        )

    def set(self, scope: str, **changes: object) -> None:
        self.policies.set(scope, {"degree": "partial", **changes}, "ann", "")
        self.cache.refresh()

    def review(self, tenant: str, wrong: Sequence[float], confidence: float = 0.9, bundle: str = BUNDLE) -> None:
        self.reviews += [Judged(tenant, bundle, confidence, one) for one in wrong]
        self.cache.judge()

    def delivers(self, tenant: str, bundle: str = BUNDLE) -> bool:
        return self.cache.terms(tenant, bundle).accepts(0.95)


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    return Cache(tmp_path, monkeypatch)


def test_a_table_alone_delivers_nothing_unseen(held: Cache) -> None:
    held.set("default", bound=0.5)
    held.review("acme", [0.0] * 5)
    assert not held.delivers("acme")
    assert held.cache.terms("acme", BUNDLE).calibrated(0.95) == pytest.approx(0.9, abs=0.02)


def test_a_promise_is_about_the_traffic_of_its_scope(held: Cache) -> None:
    held.set("default", bound=0.1)
    held.set("hard", bound=0.1)
    held.set("easy", bound=0.1)
    held.review("hard", [0.5] * 200)
    held.review("easy", [0.0] * 300)
    assert held.delivers("easy")
    assert not held.delivers("hard"), "others' easy audio must not speak for it"
    assert not held.delivers("anybody"), "tenants with a policy of their own do not speak for the rest"
    held.review("anybody", [0.0] * 150)
    held.review("somebody", [0.0] * 150)
    assert held.delivers("anybody")
    assert held.delivers("new")
    assert not held.delivers("new", "other@1"), "another bundle"


def test_a_tenant_that_gets_its_own_policy_is_judged_on_its_own_reviews(held: Cache) -> None:
    held.set("default", bound=0.1)
    held.review("hard", [0.5] * 20)
    held.review("easy", [0.0] * 600)
    assert held.delivers("hard"), "as a small part of the traffic of all"
    held.set("hard", bound=0.1)
    assert not held.delivers("hard"), "before anything is fitted for it"
    held.cache.judge()
    assert not held.delivers("hard")


def test_a_threshold_of_another_bound_is_not_used(held: Cache) -> None:
    held.set("default", bound=0.3)
    held.review("acme", [0.2] * 600)
    assert held.delivers("acme")
    held.set("default", bound=0.1)
    assert not held.delivers("acme")
    held.cache.judge()
    assert not held.delivers("acme")


def test_reviews_refine_the_calibration_of_their_scope(held: Cache) -> None:
    held.set("default")
    held.set("hard")
    held.set("small")
    held.review("easy", [0.0] * 400)
    held.review("hard", [0.5] * 400)
    held.review("small", [1.0] * 3)
    held.review("small", [0.3] * 30, bundle="bare@1")

    def at(tenant: str, bundle: str = BUNDLE) -> float | None:
        return held.cache.terms(tenant, bundle).calibrated(0.95)

    assert at("easy") == pytest.approx(1.0, abs=0.02)
    assert at("hard") == pytest.approx(0.5, abs=0.03)
    assert at("small") == pytest.approx(0.75, abs=0.03), "too few of its own: those of all"
    assert at("small", "bare@1") == pytest.approx(0.7), "without a table, reviews alone"
    assert at("easy", "none@1") is None
