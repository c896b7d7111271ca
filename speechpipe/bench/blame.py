"""The fault benchmark: how often blame names the faulty stage, the delay of alarms, and the rate of false alarms.

Faults are injected into the real cascade on real recordings (`laboratory.py`); episodes are sampled from its outputs
(`episodes.py`). Thresholds were tuned on one half of the faults; the figures are of the other half.
"""

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from speechpipe.bench.baselines import BASELINES
from speechpipe.bench.episodes import PROBE_EVERY, SHIFTS, Answers, Episode, Plan, Pool, episode, pools
from speechpipe.bench.faults import SEVERITIES, Fault, Level
from speechpipe.bench.faults.table import BY_NAME, FAULTS
from speechpipe.bench.laboratory import HEALTHY, ClipResult, Condition
from speechpipe.bench.peers import catalogue as peers
from speechpipe.cascade.evaluation.manifest import Clip
from speechpipe.monitor.blame.normal import fit
from speechpipe.monitor.blame.verdict import blame
from speechpipe.monitor.cases import Cases
from speechpipe.monitor.drift import DriftWatch
from speechpipe.monitor.profiles import Budget
from speechpipe.monitor.reference import Reference
from speechpipe.monitor.windows import Group, Grouping, Window, aggregate
from speechpipe.serving.telemetry.cascade_metrics import CASCADE

UTTERANCES_A_DAY = 10_000
RESAMPLES = 1_000
SHIFTED_SHARE = 0.3
OURS, PASSIVE = "speechpipe", "speechpipe without probes"

LABELS = (*(level.value for level in Level), "none")

SILENT = {"wrong": 0.03, "null": 0.02, "people": 0.03, "wait": 1.5}
"""A fault is silent if its severe form changes all of these by less than this, so that users do not notice it."""


@dataclass(frozen=True)
class Outcome:
    """The results of all methods on one episode."""

    plan: Plan
    rankings: Mapping[str, tuple[str, ...]]
    also: tuple[str, ...]
    delay: int | None  # cases from the onset to the first alarm or the first failing round of probes; None: none
    false_pages: int  # alarms with severity page before the onset
    healthy_cases: int
    verdict_s: float
    watched: bool  # whether the detectors were run
    failed: tuple[str, ...] = ()  # peers that raised an error; they count as having blamed no stage


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % bootstrap interval over episodes."""

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Setup:
    """The data that episodes are sampled from."""

    clips: Sequence[Clip]
    pools: Mapping[Condition, Pool]
    answers: Answers
    detect_share: float  # share of the episodes on which the detectors run, because they take most of the time


_setup: Setup | None = None

T = TypeVar("T")


def setup(clips: Sequence[Clip], heard: Mapping[Condition, Sequence[ClipResult]], detect_share: float = 1.0) -> Setup:
    """Return the data for episodes, from the results of the laboratory."""
    return Setup(clips, pools(CASCADE, heard, FAULTS), Answers(heard), detect_share)


def plans(faults: Sequence[Fault], seeds: int, healthy: int) -> list[Plan]:
    """Return the plans of episodes: `seeds` for each fault and severity, and `healthy` without a fault.

    Three in ten have a harmless shift too; of the healthy ones, half.
    """
    found = []
    for fault in faults:
        for severity in SEVERITIES:
            for seed in range(seeds):
                shifted = seed % 10 < 10 * SHIFTED_SHARE
                found.append(Plan(fault.name, severity, seed, SHIFTS[seed % len(SHIFTS)] if shifted else ""))
    for seed in range(healthy):
        shift = SHIFTS[seed // 2 % len(SHIFTS)] if seed % 2 else ""
        found.append(Plan("", "", 100_000 + seed, shift))
    return found


def judged(found: Setup, todo: Sequence[Plan], progress: Callable[[int], None] = lambda _: None) -> list[Outcome]:
    """Sample and judge every episode, on all cores. `progress` is called with the number done so far."""
    peers.installed()  # before the processes are forked: some of these libraries take seconds to import
    return on_all_cores(found, _judge, todo, progress)


def on_all_cores(
    found: Setup, judge: Callable[[Setup, Plan], T], todo: Sequence[Plan], progress: Callable[[int], None]
) -> list[T]:
    """Return what `judge`, a function of a module, says of each plan; it runs in forked processes."""
    global _setup  # noqa: PLW0603 - inherited by the forked workers, because it is large
    _setup = found
    context = multiprocessing.get_context("fork")
    outcomes = []
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        for outcome in pool.map(partial(_with_setup, judge), todo, chunksize=8):
            outcomes.append(outcome)
            progress(len(outcomes))
    _setup = None
    return outcomes


def _with_setup(judge: Callable[[Setup, Plan], T], plan: Plan) -> T:
    assert _setup is not None
    return judge(_setup, plan)


def _judge(found: Setup, plan: Plan) -> Outcome:
    drawn = episode(plan, found.clips, found.pools, found.answers)
    normal = fit(CASCADE, drawn.reference)
    begun = time.perf_counter()
    verdict = blame(normal, drawn.traffic, drawn.probes)
    took = time.perf_counter() - begun
    passive = blame(normal, drawn.traffic)
    # Baselines have no change point detection of their own: they use ours.
    since = passive.since
    window = drawn.traffic if since is None else drawn.traffic.between(since, float("inf"))
    random = np.random.default_rng(plan.seed)
    rankings = {OURS: verdict.ranking, PASSIVE: passive.ranking}
    rankings |= {name: baseline(normal, window, random).ranking for name, baseline in BASELINES.items()}
    of_peers, failed = peers.answers(normal, window, plan.seed)
    rankings |= of_peers
    watched = plan.seed % 10 < 10 * found.detect_share
    delay, pages = _alarms(drawn) if watched else (None, 0)
    return Outcome(plan, rankings, verdict.also, delay, pages, drawn.onset if watched else 0, took, watched, failed)


def _alarms(drawn: Episode) -> tuple[int | None, int]:
    """Feed the detectors as a server would; return the delay of the first alarm after the onset, and earlier pages."""
    step_s = 86_400 / UTTERANCES_A_DAY
    grouping = Grouping()
    group = grouping.group(drawn.records[0][0])
    window = Window(0, group, 0)
    for part in aggregate(CASCADE, (record for records in drawn.reference_records for record in records), grouping):
        window.merge(part)
    length_s = len(drawn.reference_records) * step_s
    watch = DriftWatch(CASCADE, Budget())
    watch.compare_with({group: Reference(1, group, 0.0, length_s, 0.0, "pinned", window)})
    firing: set[str] = set()
    pages = 0
    for index, records in enumerate(drawn.records):
        for record in records:
            watch.update(group, record)
        now = {condition.metric: condition for condition in watch.conditions(records[-1].at, _never)}
        new = now.keys() - firing
        if index >= drawn.onset and (new or _probes_alarm(drawn, index)):
            return index - drawn.onset, pages
        pages += any(now[name].severity == "page" for name in new)
        firing |= new
    return None, pages


def _never(_: Group) -> bool:
    return False


def _probes_alarm(drawn: Episode, index: int) -> bool:
    rounds = (index - drawn.onset) // PROBE_EVERY
    return rounds >= 1 and any(one.failed / one.of > 0.1 for one in drawn.probes)


# ---- scoring ----


def silent_faults(heard: Mapping[Condition, Sequence[ClipResult]], found: Mapping[Condition, Pool]) -> list[str]:
    """Return the faults whose severe form changes nothing that users notice."""
    names = []
    healthy = _noticed(heard[HEALTHY], found[HEALTHY].cases)
    for fault in FAULTS:
        condition = (fault.name, "severe")
        now = _noticed(heard.get(condition, heard[HEALTHY]), found[condition].cases)
        moved = {key: abs(now[key] - healthy[key]) for key in ("wrong", "null", "people")}
        waits = now["wait"] / max(healthy["wait"], 1e-9)
        twice = fault.name == "duplicated_responses"
        skewed = fault.name == "version_skew"
        if all(moved[key] < SILENT[key] for key in moved) and waits < SILENT["wait"] and not (twice or skewed):
            names.append(fault.name)
    return names


def _noticed(heard: Sequence[ClipResult], cases: Cases) -> dict[str, float]:
    people = ("people.redo_rate", "people.switch_to_typing_rate", "people.abandon_rate")
    nulls = cases.column("asr.null_share")
    return {
        "wrong": float(np.mean([one.wrong for one in heard])),
        "null": float(np.nanmean(np.where(np.isfinite(nulls), nulls, 1.0))),
        "people": sum(float(np.nan_to_num(np.nanmean(cases.column(name)))) for name in people),
        "wait": float(np.nan_to_num(np.nanmean(cases.column("software.stretch")), nan=1.0)),
    }


def interval(values: Iterable[float], seed: int = 0) -> Interval:
    """Return the mean of zeros and ones with its interval."""
    known = np.array(list(values), float)
    if not len(known):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    picks = np.random.default_rng(seed).integers(0, len(known), (RESAMPLES, len(known)))
    low, high = np.quantile(known[picks].mean(axis=1), [0.025, 0.975])
    return Interval(float(known.mean()), float(low), float(high), len(known))


@dataclass(frozen=True)
class Score:
    """The figures of one method."""

    top1: Mapping[str, Interval]
    top2: Mapping[str, Interval]
    specificity: Interval


def score(outcomes: Sequence[Outcome], method: str, silent: Sequence[str]) -> Score:
    """Return a method's figures on the episodes it judged, without silent faults; blaming none counts as wrong."""
    outcomes = [one for one in outcomes if method in one.rankings]
    noticed = [one for one in outcomes if one.plan.fault and one.plan.fault not in silent]
    healthy = [one for one in outcomes if not one.plan.fault]
    return Score(
        {severity: interval(_hits(noticed, method, severity, 1)) for severity in SEVERITIES},
        {severity: interval(_hits(noticed, method, severity, 2)) for severity in SEVERITIES},
        interval(float(one.rankings[method][0] == "none") for one in healthy),
    )


def _hits(outcomes: Sequence[Outcome], method: str, severity: str, most: int) -> list[float]:
    return [
        float(one.plan.truth in [label for label in one.rankings[method] if most == 1 or label != "none"][:most])
        for one in outcomes
        if one.plan.severity == severity
    ]


def confusion(outcomes: Sequence[Outcome], method: str = OURS) -> dict[str, Counter[str]]:
    """Return how often each label was blamed for each true label, for medium and severe faults."""
    found: dict[str, Counter[str]] = {label: Counter() for label in LABELS}
    for one in outcomes:
        if one.plan.severity != "mild":
            found[one.plan.truth][one.rankings[method][0]] += 1
    return found


def delays(outcomes: Sequence[Outcome], severity: str) -> dict[str, float | None]:
    """Return the delay in cases from onset to alarm (median, 90th percentile; None: never), and the detected share."""
    mine = [one.delay for one in outcomes if one.watched and one.plan.severity == severity and one.plan.fault]
    values = np.array([float("inf") if delay is None else float(delay) for delay in mine])
    if not len(values):
        return {"median": None, "p90": None, "detected": None}
    median, p90 = np.quantile(values, [0.5, 0.9], method="higher")
    finite = [None if not np.isfinite(value) else float(value) for value in (median, p90)]
    return {"median": finite[0], "p90": finite[1], "detected": float(np.isfinite(values).mean())}


def false_pages_a_day(outcomes: Sequence[Outcome]) -> float:
    """Return false pages a day at `UTTERANCES_A_DAY`, over all healthy traffic without a shift."""
    cases = sum(one.healthy_cases for one in outcomes if not one.plan.shift)
    pages = sum(one.false_pages for one in outcomes if not one.plan.shift)
    return pages / max(cases, 1) * UTTERANCES_A_DAY


def by_fault(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """Return the top-1 rate by fault and severity."""
    found: dict[str, dict[str, float]] = {}
    for fault in dict.fromkeys(one.plan.fault for one in outcomes if one.plan.fault):
        mine = [one for one in outcomes if one.plan.fault == fault]
        found[fault] = {severity: float(np.mean(_hits(mine, OURS, severity, 1))) for severity in SEVERITIES}
    return found


def level_of(fault: str) -> str:
    """Return the label of a fault's level."""
    return BY_NAME[fault].level.value
