"""Days of healthy traffic with a daily rhythm, on a simulated clock, through the alarms of a server.

What rings, rings for nothing. Traffic is that of `day_traffic.py`; records go through the store, the watcher, its
detectors, limits, verdicts and incidents as on a server. Each reference that the watcher proposes is approved at once.
"""

import math
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from speechpipe.bench.day_traffic import DAY_S, HOUR_S, Traffic
from speechpipe.bench.laboratory import ClipResult
from speechpipe.cascade.evaluation.manifest import Clip
from speechpipe.foundation.storage.store import Store
from speechpipe.monitor.alarms import Alarm
from speechpipe.monitor.incidents import APART
from speechpipe.monitor.spec import Severity
from speechpipe.monitor.watch import Watcher, WatchOptions
from speechpipe.serving.health.operations import HealthOperations
from speechpipe.serving.telemetry.cascade_metrics import CASCADE

STEP_S = 60.0
APPROVE_S, HOUSE_S = 600.0, HOUR_S
MONDAY = 1_767_571_200.0
"""Monday, 5 January 2026, 00:00 UTC."""

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True)
class Rung:
    """One alarm that fired. `page`: it was one when sinks were told. Unix seconds."""

    at: float
    metric: str
    group: str
    rule: str
    page: bool
    incident: str
    reason: str
    blame: str


@dataclass(frozen=True)
class Run:
    """One simulated time. `watched_from`: when the first reference was approved; days begin there."""

    seed: int
    begun: float
    watched_from: float
    ended: float
    utterances: int
    rung: tuple[Rung, ...]

    @property
    def days(self) -> float:
        """How many days were watched."""
        return (self.ended - self.watched_from) / DAY_S


class _Told:
    """A sink that keeps what it is told."""

    name = "bench"

    def __init__(self) -> None:
        self.rung: dict[str, Rung] = {}

    def send(self, alarms: Sequence[Alarm]) -> None:
        """Keep the alarms that fire."""
        for alarm in alarms:
            condition = alarm.condition
            if alarm.state == "firing" and condition.rule not in APART:
                page = condition.severity == Severity.PAGE.value
                at = alarm.firing_at or alarm.pending_at
                self.rung[alarm.id] = Rung(
                    at,
                    condition.metric,
                    condition.group,
                    condition.rule,
                    page,
                    alarm.incident,
                    condition.reason,
                    alarm.blame,
                )


@dataclass(frozen=True)
class Plan:
    """What is simulated: from a time on (unix seconds), for so many days after the first reference."""

    begin: float
    days: float
    utterances_a_day: float
    seed: int
    verdicts: bool = True  # False: faster; alarms that page with a verdict only are counted as such


def begins(seed: int) -> float:
    """Return when the run of a seed begins: servers are started on all days, at different hours."""
    return MONDAY + (seed % 7) * DAY_S + (8 + 5 * seed % 12) * HOUR_S


def simulated(
    plan: Plan, clips: Sequence[Clip], healthy: Sequence[ClipResult], progress: Callable[[float, int], None]
) -> Run:
    """Simulate one run. `progress` is called once a simulated hour, with the time and the alarms so far."""
    traffic = Traffic(clips, healthy, plan.utterances_a_day, plan.seed)
    told = _Told()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{Path(folder) / 'records.db'}")
        store.open()
        try:
            return _watch(plan, traffic, store, told, progress)
        finally:
            store.close()


def _watch(plan: Plan, traffic: Traffic, store: Store, told: _Told, progress: Callable[[float, int], None]) -> Run:
    now, watched_from, utterances, steps = plan.begin, 0.0, 0, 0
    watcher = Watcher(CASCADE, store, [told], WatchOptions(verdicts=plan.verdicts))
    operations = HealthOperations(CASCADE, store, clock=lambda: now)
    while not watched_from or now < watched_from + plan.days * DAY_S:
        found = traffic.between(now, now + STEP_S)
        utterances += sum(record.kind == "unit" for record in found) if watched_from else 0
        for record in found:
            store.append(record)
        store.flush()
        now += STEP_S
        steps += 1
        watcher.tick(now)
        if steps % (APPROVE_S // STEP_S) == 0 and _approve(operations) and not watched_from:
            watched_from = now
        if steps % (HOUSE_S // STEP_S) == 0:
            watcher.keep_house(now)
            progress(now, len(told.rung))
    return Run(plan.seed, plan.begin, watched_from, now, utterances, tuple(told.rung.values()))


def _approve(operations: HealthOperations) -> bool:
    """Approve what is proposed; return whether traffic has a reference now."""
    found = [reference for reference in operations.references() if reference.status == "proposed"]
    for reference in found:
        operations.approve(reference.id, "bench")
    return any(any(reference.group) for reference in found)


# ---- the table ----


@dataclass(frozen=True)
class DayRow:
    """What rang on one watched day (24 h from the first reference on)."""

    seed: int
    day: str
    number: int
    pages: int  # incidents with a page
    page_alarms: int
    incidents: int
    alarms: int
    metrics: str


def rows(run: Run) -> list[DayRow]:
    """Return the rows of a run's days."""
    found = []
    for number in range(math.ceil(run.days - 0.01)):
        begin = run.watched_from + number * DAY_S
        mine = [one for one in run.rung if begin <= one.at < begin + DAY_S]
        counts = Counter(f"{one.metric.split('.')[1]}{'!' if one.page else ''}" for one in mine)
        day = DAYS[int((begin - MONDAY) // DAY_S) % 7]
        found.append(
            DayRow(
                run.seed,
                day,
                number + 1,
                len({one.incident for one in mine if one.page}),
                sum(one.page for one in mine),
                len({one.incident for one in mine}),
                len(mine),
                ", ".join(f"{name} {count}" for name, count in counts.most_common()),
            )
        )
    return found


def text(runs: Sequence[Run], utterances_a_day: float) -> str:
    """Return the table."""
    lines = ["seed day    pages  page alarms  incidents  alarms  which (!: a page)"]
    found = [row for run in runs for row in rows(run)]
    lines += [
        f"{row.seed:4d} {row.number:3d} {row.day} {row.pages:5d} {row.page_alarms:12d} {row.incidents:10d}"
        f" {row.alarms:7d}  {row.metrics}"
        for row in found
    ]
    days = max(sum(run.days for run in runs), 1e-9)
    kept = [one for run in runs for one in run.rung if one.at >= run.watched_from]
    pages = {(run.seed, one.incident) for run in runs for one in run.rung if one.page}
    whole = {(run.seed, one.incident) for run in runs for one in run.rung}
    lines.append(
        f"a day, over {days:.0f} days of {utterances_a_day:,.0f} utterances (working days):"
        f" {len(pages) / days:.2f} pages, {sum(one.page for one in kept) / days:.2f} alarms that page,"
        f" {len(whole) / days:.2f} incidents, {len(kept) / days:.2f} alarms"
    )
    return "\n".join(lines)
