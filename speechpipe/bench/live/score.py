"""What of that which the server said was right. Pure functions of stretches of traffic, alarms and verdicts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from speechpipe.bench.live.table import SEVERITIES, LiveFault
from speechpipe.bench.live.traffic import Said

NONE = "none"
PAGE = "page"

LATE_S = 30.0
"""What the server says so soon after a fault is about that fault, and does not count as said of healthy traffic."""


@dataclass(frozen=True)
class AlarmSeen:
    """An alarm that fired. Times are unix seconds; `reason` as it was first seen, `later` as it was last seen."""

    metric: str
    stage: str
    severity: str
    group: str
    reason: str
    firing_at: float
    resolved_at: float | None = None
    blame: str = ""
    later: str = ""
    incident: str = ""


@dataclass(frozen=True)
class VerdictSeen:
    """A verdict that the server made and stored. Times are unix seconds."""

    at: float
    group: str
    label: str
    also: tuple[str, ...] = ()
    perhaps: tuple[str, ...] = ()
    decided: bool = True
    reason: str = ""
    cases: int = 0
    since: float | None = None


@dataclass(frozen=True)
class Stretch:
    """Traffic between two times (unix seconds): healthy, or under a fault and perhaps a second one."""

    began: float
    ended: float
    said: Sequence[Said]
    fault: LiveFault | None = None
    second: LiveFault | None = None
    seed: int = 0

    def spoken(self, until: float = float("inf")) -> int:
        """Return the recordings of the sessions that ended until then."""
        return sum(one.recordings for one in self.said if one.at <= until)

    def holds(self, at: float) -> bool:
        """Whether a time lies in it."""
        return self.began <= at <= self.ended


@dataclass(frozen=True)
class Felt:
    """What clients noticed in a stretch; shares 0..1, None without sessions or texts."""

    utterances: int
    wrong: float | None  # mean share of wrong words in a session
    without_text: float | None  # share of sessions
    wait_p95_s: float | None
    failed: float | None  # share of sessions


@dataclass(frozen=True)
class Outcome:
    """What the server said during one fault.

    Attributes:
        alarm: metric of the first alarm that fired within the fault; empty: none did.
        alarm_after: utterances from the start of the fault to that alarm.
        alarms: metrics of all alarms that fired within it.
        pages: those that page.
        incidents: how many of the server's incidents began within it.
        open_before: metrics of alarms that had fired before and were not over: they cannot fire anew.
        verdict: the last verdict made within the fault. Each group of traffic has its own last one, as in the report;
            of these, one that names a stage goes before `none`. None: the server made no verdict.
        labels: the labels of all verdicts within it, in order.
        right_after: utterances to the first verdict with the right label; None: there was none.
        right: whether the last verdict is right; without a fault, whether no stage was named and nothing paged.
        also_named: whether the verdict and its `also` name both faults; None if there is one fault.
        unsure: whether they do with `perhaps`, of which the server is not sure; None if there is one fault.
    """

    fault: LiveFault
    seed: int
    felt: Felt
    before: Felt
    alarm: str
    alarm_after: int | None
    alarms: tuple[str, ...]
    pages: tuple[str, ...]
    incidents: int
    open_before: tuple[str, ...]
    verdict: VerdictSeen | None
    labels: tuple[str, ...]
    right_after: int | None
    right: bool
    also_named: bool | None
    unsure: bool | None = None


def felt(said: Sequence[Said]) -> Felt:
    """Return what clients noticed."""
    whole = [one for one in said if not one.error]
    wrong = [one.wrong for one in said if one.wrong is not None]
    return Felt(
        utterances=sum(one.recordings for one in said),
        wrong=_mean(wrong),
        without_text=_mean([float(one.without_text) for one in whole]),
        wait_p95_s=float(np.quantile([one.wait_s for one in said], 0.95)) if said else None,
        failed=_mean([float(bool(one.error)) for one in said]),
    )


def judged(stretch: Stretch, before: Felt, alarms: Iterable[AlarmSeen], verdicts: Iterable[VerdictSeen]) -> Outcome:
    """Return what the server said within a stretch with a fault, and whether it was right."""
    fault = stretch.fault
    assert fault is not None
    alarms = list(alarms)
    fired = sorted((one for one in alarms if stretch.holds(one.firing_at)), key=lambda one: one.firing_at)
    earlier = [
        one.metric
        for one in alarms
        if one.firing_at < stretch.began and (one.resolved_at is None or one.resolved_at > stretch.began)
    ]
    made = sorted((one for one in verdicts if stretch.holds(one.at)), key=lambda one: one.at)
    truths = {fault.truth, *([stretch.second.truth] if stretch.second else [])}
    last = max({one.group: one for one in made}.values(), key=_weight, default=None)
    pages = tuple(one.metric for one in fired if one.severity == PAGE)
    first_right = next((one for one in made if one.label in truths and one.decided), None)
    if fault.truth == NONE:
        right = not pages and all(one.label == NONE for one in made)
    else:
        right = last is not None and last.label in truths
    also_named = unsure = None
    if stretch.second is not None:
        also_named = last is not None and truths <= {last.label, *last.also}
        unsure = last is not None and truths <= {last.label, *last.also, *last.perhaps}
    return Outcome(
        fault=fault,
        seed=stretch.seed,
        felt=felt(stretch.said),
        before=before,
        alarm=fired[0].metric if fired else "",
        alarm_after=stretch.spoken(fired[0].firing_at) if fired else None,
        alarms=tuple(one.metric for one in fired),
        pages=pages,
        incidents=len(
            {one.incident for one in fired} - {one.incident for one in alarms if one.firing_at < stretch.began}
        ),
        open_before=tuple(dict.fromkeys(earlier)),
        verdict=last,
        labels=tuple(one.label for one in made),
        right_after=None if first_right is None else stretch.spoken(first_right.at),
        right=right,
        also_named=also_named,
        unsure=unsure,
    )


def _weight(one: VerdictSeen) -> tuple[bool, bool, float]:
    """Order the last verdicts of the groups: a group in which nothing was found does not contradict another."""
    return one.label != NONE, one.decided, one.at


def summary(
    outcomes: Sequence[Outcome],
    healthy: Sequence[Stretch],
    alarms: Iterable[AlarmSeen],
    verdicts: Iterable[VerdictSeen],
) -> dict[str, Any]:
    """Return the figures over all faults; shares 0..1, delays in utterances (None: never, or no such fault)."""
    alarms = list(alarms)
    mine = [alarm for alarm in alarms if _for_nothing(alarm.firing_at, healthy)]
    named = [verdict for verdict in verdicts if verdict.label != NONE and _for_nothing(verdict.at, healthy)]
    doubles = [one for one in outcomes if one.also_named is not None]
    spoken = sum(stretch.spoken() for stretch in healthy)
    return {
        "by_severity": {
            severity: _severity([o for o in outcomes if o.fault.severity == severity]) for severity in SEVERITIES
        },
        "healthy": {
            "utterances": spoken,
            "stretches": len(healthy),
            "pages": [f"{alarm.metric}: {alarm.reason}" for alarm in mine if alarm.severity == PAGE],
            "alarms": len(mine),
            "verdicts_that_name_a_stage": [f"{one.label}: {one.reason}" for one in named],
        },
        "second_faults": {
            "named": sum(bool(one.also_named) for one in doubles),
            "named_or_unsure": sum(bool(one.unsure) for one in doubles),
            "first_right": sum(one.right for one in doubles),
            "of": len(doubles),
        },
        "alarms": len(alarms),
        "incidents": incidents(alarms),
        "incidents_a_fault": _mean([one.incidents for one in outcomes if one.fault.truth != NONE and one.alarms]),
    }


def _for_nothing(at: float, healthy: Sequence[Stretch]) -> bool:
    return any(stretch.holds(at) and at >= stretch.began + LATE_S for stretch in healthy)


def _severity(mine: Sequence[Outcome]) -> dict[str, Any]:
    faulty = [one for one in mine if one.fault.truth != NONE]
    return {
        "faults": len(mine),
        "right": sum(one.right for one in mine),
        "alarmed": sum(bool(one.alarm) for one in mine),
        "paged": sum(bool(one.pages) for one in mine),
        "median_to_alarm": _median([one.alarm_after for one in faulty]),
        "median_to_verdict": _median([one.right_after for one in faulty]),
    }


def incidents(alarms: Iterable[AlarmSeen]) -> int:
    """Return the number of incidents that the server made of these alarms."""
    return len({alarm.incident for alarm in alarms if alarm.incident})


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _median(values: Sequence[int | None]) -> float | None:
    """Return the median, None if the half of the values is missing: those are infinite."""
    if not values:
        return None
    ordered = sorted(float("inf") if value is None else float(value) for value in values)
    middle = ordered[len(ordered) // 2]
    return middle if np.isfinite(middle) else None
