"""A shop with a clickstream: users with tastes, a profile store, a small real recommender, a catalogue. And its faults.

The recommender is scikit-learn's multinomial logistic regression, trained on a simulated history: from a profile to the
category of the next click.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from speechpipe.foundation.storage.record import Record

CATEGORIES = 8
ITEMS = 200
SHOWN = 10
ATTRIBUTES = 3
MISSING = 0.04
TRAINING = 3_000

Table = npt.NDArray[np.float64]

FAULTS = {
    "P1 missing user attributes": ("user", (0.2, 0.5, 0.9)),
    "P2 profile unknown": ("profile", (0.2, 0.5, 0.9)),
    "P3 label flip": ("recommender", (0.3, 0.6, 1.0)),
    "P4 stale profile store": ("profile", (0.3, 0.6, 1.0)),
    "P5 popularity collapse": ("recommender", (0.3, 0.6, 1.0)),
    "P6 missing catalogue items": ("product", (0.1, 0.3, 0.6)),
}
"""Name: the stage at fault, and how much of it at mild, medium and severe."""

SEVERITIES = ("mild", "medium", "severe")


@dataclass(frozen=True)
class Visits:
    """What the profile stage is given; one row a visit."""

    tastes: Table  # (visits, categories), what the user really likes now
    before: Table  # what they liked when a stale profile was made
    clicks: Table  # (visits, categories), events in the history
    recent: Table  # (visits, categories), the last few of them
    missing: Table  # (visits, attributes), 0 or 1


class Shop:
    """Everything that is the same for all visits."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random = np.random.default_rng(seed)
        self.category = random.integers(0, CATEGORIES, ITEMS)
        self.popularity = 1 / np.arange(1, ITEMS + 1) ** 0.7
        random.shuffle(self.popularity)
        self.popularity /= self.popularity.max()
        visits = self.visits(TRAINING, random)
        profiles = self.profiles(visits, random)
        labels = np.array([random.choice(CATEGORIES, p=taste) for taste in visits.tastes])
        self._models = {0.0: self._trained(profiles, labels)}
        for share in FAULTS["P3 label flip"][1]:
            flipped = np.where(random.random(TRAINING) < share, (labels + CATEGORIES // 2) % CATEGORIES, labels)
            self._models[share] = self._trained(profiles, flipped)

    def _trained(self, profiles: Table, labels: npt.NDArray[np.int64]) -> LogisticRegression:
        return LogisticRegression(max_iter=300).fit(profiles[:, :CATEGORIES], labels)

    def visits(self, count: int, random: np.random.Generator, *, drift: float = 0.0, new_users: float = 0.0) -> Visits:
        """Draw visits. `drift` moves tastes to the first categories; `new_users` is a share with short histories."""
        pull = np.where(np.arange(CATEGORIES) < 3, 1.0 + 3.0 * drift, 1.0)
        tastes = random.dirichlet(0.35 * pull, count)
        other = random.dirichlet(0.35 * pull, count)
        before = 0.4 * tastes + 0.6 * other
        events = np.where(random.random(count) < new_users, 4, 8 + random.poisson(20, count))
        clicks = random.multinomial(events, _proper(0.85 * tastes + 0.15 * before)).astype(float)
        recent = random.multinomial(6, _proper(tastes)).astype(float)
        missing = (random.random((count, ATTRIBUTES)) < MISSING).astype(float)
        return Visits(tastes, before, clicks, recent, missing)

    def profiles(self, visits: Visits, random: np.random.Generator, fault: str = "", value: float = 0.0) -> Table:
        """Return (visits, categories + 1): affinities, and the share that is unknown."""
        clicks = visits.clicks
        if fault.startswith("P4"):
            stale = random.random(len(clicks)) < value
            old = random.multinomial(clicks.sum(axis=1).astype(int), _proper(visits.before)).astype(float)
            clicks = np.where(stale[:, None], old, clicks)
        affinity = (clicks + 0.3) / (clicks + 0.3).sum(axis=1, keepdims=True)
        unknown = visits.missing.mean(axis=1)
        if fault.startswith("P2"):
            broken = (random.random(visits.missing.shape) < value).astype(float)
            unknown = np.maximum(visits.missing, broken).mean(axis=1)
        affinity = (1 - 0.6 * unknown[:, None]) * affinity + 0.6 * unknown[:, None] / CATEGORIES
        return np.concatenate([affinity, unknown[:, None]], axis=1)

    def records(
        self,
        visits: Visits,
        at: Table,
        random: np.random.Generator,
        tenant: str = "",
        fault: str = "",
        value: float = 0.0,
    ) -> list[Record]:
        """Run visits through the cascade; return two records each, a session and a unit."""
        missing = visits.missing
        if fault.startswith("P1"):
            missing = np.maximum(missing, random.random(missing.shape) < value)
            visits = Visits(visits.tastes, visits.before, visits.clicks, visits.recent, missing)
        profiles = self.profiles(visits, random, fault, value)
        model = self._models[value if fault.startswith("P3") else 0.0]
        wanted = model.predict_proba(profiles[:, :CATEGORIES])
        scores = wanted[:, self.category] * (0.3 + 0.7 * self.popularity**0.3)
        if fault.startswith("P5"):
            scores = (1 - value) * scores / scores.max(axis=1, keepdims=True) + value * self.popularity
        lists = np.argsort(-scores - 0.02 * random.random(scores.shape), axis=1)[:, :SHOWN]
        there = np.ones(ITEMS, bool)
        if fault.startswith("P6"):
            there = random.random(ITEMS) >= value
        found = []
        for row in range(len(at)):
            found += self._told(
                visits, profiles[row], scores[row], lists[row], there, row, float(at[row]), tenant, random
            )
        return found

    def _told(self, visits, profile, scores, items, there, row, at, tenant, random):  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917
        affinity, kinds = profile[:CATEGORIES], self.category[items]
        shown = items[there[items]]
        liked = visits.tastes[row][self.category[shown]]
        recent = visits.recent[row] / visits.recent[row].sum()
        measures = {
            "user.missing_share": float(visits.missing[row].mean()),
            "user.events": float(visits.clicks[row].sum()),
            "user.variety": float((visits.clicks[row] > 0).sum()),
            "profile.unknown_share": float(profile[-1]),
            "profile.agreement": float(np.minimum(affinity, recent).sum()),
            "profile.focus": float(affinity.max()),
            "recommender.affinity": float(affinity[kinds].mean() / affinity.max()),
            "recommender.popularity": float(self.popularity[items].mean()),
            "recommender.variety": float(len(set(kinds.tolist()))),
            "recommender.score": float(scores[items].mean()),
            "product.missing_share": 1 - len(shown) / SHOWN,
            "people.click": float((random.random(len(shown)) < 0.01 + 0.08 * liked).any()) if len(shown) else 0.0,
        }
        name = f"{tenant or 'visit'}-{at:.3f}-{row}"
        common = {
            "session_id": name,
            "at": at,
            "channel": "web",
            "bundle": "shop",
            "bundle_version": "1",
            "tenant": tenant,
            "tenant_class": "enterprise" if tenant else "consumer",
        }
        unit = Record(kind="unit", id=f"{name}-0", outcome="ok" if len(shown) else "empty", measures=measures, **common)
        return [unit, Record(kind="session", id=name, **common)]


def _proper(shares: Table) -> Table:
    return shares / shares.sum(axis=1, keepdims=True)
