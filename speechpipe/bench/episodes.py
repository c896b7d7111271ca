"""Episodes of traffic: a healthy reference, healthy traffic, then from a random point a fault, a shift or neither.

Cases are sampled from the results of the laboratory: speakers, load and user behaviour are sampled each time, and
the outputs of the stages are those of each (recording, variant, fault).
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from speechpipe.bench.faults import SEVERITIES, Fault, Level, behaviour, operation
from speechpipe.bench.faults.table import BY_NAME
from speechpipe.bench.laboratory import HEALTHY, ClipResult, Condition
from speechpipe.cascade.evaluation.manifest import Clip
from speechpipe.foundation.storage.record import Measure, Record
from speechpipe.monitor.blame.probes import ProbeResult
from speechpipe.monitor.cases import Cases, joined
from speechpipe.monitor.spec import CascadeSpec
from speechpipe.serving.health.probes import answers_differ, segments_differ
from speechpipe.serving.telemetry.records import feedback_record

POOL = 1000
"""The least number of cases of a condition: each session is repeated with other timings and user behaviour."""

REFERENCE = 500
BEFORE = (300, 600)
AFTER = 300
CANARY_SHARE = 0.05
USUAL_RSS_MB = 900.0
MOST_PROBES = 20
PROBE_EVERY = 35
"""Cases between two rounds of probes: five minutes at 10,000 cases a day."""

SHIFTS = ("short", "speakers", "load")
LOAD = 1.3
NEW_SPEAKER_SHARE = 0.3


@dataclass(frozen=True)
class Pool:
    """The cases of one condition with their records; `clips` has the clip of each case."""

    cases: Cases
    clips: npt.NDArray[np.int64]
    records: Sequence[tuple[Record, ...]]


@dataclass(frozen=True)
class Plan:
    """The plan of an episode. `truth` is the correct label."""

    fault: str
    severity: str
    seed: int
    shift: str = ""

    @property
    def condition(self) -> Condition:
        """The condition of the traffic after the onset."""
        return (self.fault, self.severity)

    @property
    def truth(self) -> str:
        """The level of the fault; `none` without a fault."""
        return BY_NAME[self.fault].level.value if self.fault else "none"


@dataclass(frozen=True)
class Episode:
    """An episode; `onset` is the index in `traffic` of the first case with the fault (its length without one)."""

    plan: Plan
    reference: Cases
    traffic: Cases
    onset: int
    reference_records: Sequence[tuple[Record, ...]]
    records: Sequence[tuple[Record, ...]]
    probes: tuple[ProbeResult, ...]  # of all rounds after the onset


def pools(
    spec: CascadeSpec, heard: Mapping[Condition, Sequence[ClipResult]], faults: Sequence[Fault]
) -> Mapping[Condition, Pool]:
    """Return the pool of cases for every condition."""
    conditions = [HEALTHY, *((fault.name, severity) for fault in faults for severity in SEVERITIES)]
    return {condition: _pool(spec, heard, condition, number) for number, condition in enumerate(conditions)}


def _pool(spec: CascadeSpec, heard: Mapping[Condition, Sequence[ClipResult]], condition: Condition, seed: int) -> Pool:
    random = np.random.default_rng(seed)
    source = heard.get(condition) or heard[HEALTHY]
    other = heard.get(("asr_wrong_model", "medium"), source)
    fault, severity = BY_NAME.get(condition[0]), condition[1]
    sessions: list[tuple[Record, ...]] = []
    clips = []
    for index, one in enumerate(source):
        for _ in range(-(-POOL // len(source))):
            sessions.append(_session_records(one, other[index], fault, severity, len(sessions), random))
            clips.append(one.clip)
    cases = joined(spec, (record for records in sessions for record in records))
    return Pool(cases, np.array(clips), sessions)


def _session_records(
    one: ClipResult, other: ClipResult, fault: Fault | None, severity: str, number: int, random: np.random.Generator
) -> tuple[Record, ...]:
    name, value = (fault.name, fault.value(severity)) if fault is not None else ("", 0.0)
    units = [_timed(unit, random) for unit in one.units]
    session = one.session
    if name == "version_skew":  # workers with the old model keep answering with it
        units = [
            replace(skewed, versions={**skewed.versions, "asr": "another@0.9"}) if random.random() < value else unit
            for unit, skewed in zip(units, [_timed(unit, random) for unit in other.units], strict=True)
        ]
    elif fault is not None and fault.level is Level.INFRA:
        session, units = operation.spoil(name, value, session, units, random)
    habits = behaviour.Habits()
    if fault is not None and fault.level is Level.CLIENT:
        habits = behaviour.spoil(name, value, habits)
    wrong = one.wrong if any(unit.outcome == "ok" for unit in units) else 1.0
    said = [
        feedback_record(unit, kind, f"f{number}-{index}-{kind}", 0.0)
        for index, unit in enumerate(units)
        for kind in habits.draw(wrong, random)
    ]
    return tuple(
        replace(record, id=f"{record.id}-{number}", session_id=f"s{number}", at=float(number))
        for record in (session, *units, *said)
    )


def _timed(unit: Record, random: np.random.Generator) -> Record:
    cpu = unit.measures.get("asr.cpu_s")
    measures: dict[str, Measure] = {
        "asr.wall_s": float(cpu) * float(random.lognormal(0.15, 0.12)) if isinstance(cpu, int | float) else None,
        "asr.queue_s": float(random.exponential(0.02)),
    }
    return replace(unit, measures={**unit.measures, **measures})


# ---- sampling ----


def episode(plan: Plan, clips: Sequence[Clip], found: Mapping[Condition, Pool], heard: "Answers") -> Episode:
    """Sample the episode of a plan."""
    random = np.random.default_rng([plan.seed, zlib.crc32(repr((plan.condition, plan.shift)).encode())])
    speakers = sorted({clip.speaker for clip in clips})
    usual = dict(zip(speakers, random.dirichlet(np.full(len(speakers), 5.0)), strict=True))
    then = dict(usual)
    if plan.shift == "speakers" and len(speakers) > 1:
        new = speakers[int(random.integers(len(speakers)))]
        usual[new] = 0.0
        then = {name: (1 - NEW_SPEAKER_SHARE) * share for name, share in usual.items()}
        then[new] = NEW_SPEAKER_SHARE * sum(usual.values())
    healthy, after = found[HEALTHY], found[plan.condition]
    weights = _weights(healthy, clips, usual)
    shifted = _weights(after, clips, then, short=plan.shift == "short")
    before = int(random.integers(*BEFORE))
    reference = random.choice(len(weights), REFERENCE, p=weights)
    first = random.choice(len(weights), before, p=weights)
    rest = random.choice(len(shifted), AFTER, p=shifted)
    names = healthy.cases.names
    values = np.concatenate([healthy.cases.values[first], after.cases.values[rest]])
    pinned = healthy.cases.values[reference].copy()
    fault, value = BY_NAME.get(plan.fault), 0.0
    if fault is not None:
        value = fault.value(plan.severity)
    canary = names.index("system.canary_share")
    for part in (pinned, values[:before], values[before:]):
        if not part[:, canary].any():
            part[:, canary] = random.random(len(part)) < CANARY_SHARE
    rss = names.index("software.rss_mb")
    pinned[:, rss] = USUAL_RSS_MB + random.normal(0, 20, REFERENCE)
    values[:, rss] = USUAL_RSS_MB + random.normal(0, 20, len(values))
    values[before:, rss] += operation.rss_mb(plan.fault, value, 0.0)
    if plan.shift == "load":
        for name in ("software.stretch", "software.queue_s"):
            values[before:, names.index(name)] *= LOAD
    return Episode(
        plan=plan,
        reference=Cases(names, np.arange(REFERENCE, dtype=float), pinned),
        traffic=Cases(names, REFERENCE + np.arange(len(values), dtype=float), values),
        onset=before if plan.fault else len(values),
        reference_records=[healthy.records[index] for index in reference],
        records=[*(healthy.records[index] for index in first), *(after.records[index] for index in rest)],
        probes=heard.probes(plan, random),
    )


def _weights(
    pool: Pool, clips: Sequence[Clip], speakers: Mapping[str, float], *, short: bool = False
) -> npt.NDArray[np.float64]:
    counts: dict[str, int] = {}
    for clip in pool.clips.tolist():
        counts[clips[clip].speaker] = counts.get(clips[clip].speaker, 0) + 1
    weights = np.array([speakers[clips[clip].speaker] / counts[clips[clip].speaker] for clip in pool.clips.tolist()])
    if short:
        lengths = np.array([clips[clip].duration_s for clip in pool.clips.tolist()])
        weights = weights * np.exp(-lengths / max(float(np.median(lengths)), 0.1))
    return np.asarray(weights / weights.sum())


class Answers:
    """The probes' results: those of the first recordings, compared with their healthy results."""

    def __init__(self, heard: Mapping[Condition, Sequence[ClipResult]]) -> None:
        self._heard = heard
        pinned: dict[int, int] = {}
        for index, one in enumerate(heard[HEALTHY]):
            pinned.setdefault(one.clip, index)
        self._probes = list(pinned.values())[:MOST_PROBES]
        self._known: dict[Condition, tuple[list[bool], list[bool]]] = {}

    def probes(self, plan: Plan, random: np.random.Generator) -> tuple[ProbeResult, ...]:
        """Return the probe results over the rounds within `AFTER` cases."""
        vad, asr = self._differ(plan.condition)
        fault = BY_NAME.get(plan.fault)
        counts = {"vad": [0, 0], "asr": [0, 0]}
        for _ in range(AFTER // PROBE_EVERY):
            for index in range(len(self._probes)):
                through = True
                skewed = False
                if fault is not None and fault.level is Level.INFRA:
                    value = fault.value(plan.severity)
                    through = plan.fault != "worker_timeouts" or random.random() >= value
                    skewed = plan.fault == "version_skew" and random.random() < value
                counts["vad"][0] += vad[index]
                counts["vad"][1] += 1
                if through:  # a probe without an answer is no evidence about the recognizer
                    counts["asr"][0] += asr[index] or skewed
                    counts["asr"][1] += 1
        return tuple(ProbeResult(stage, failed, of) for stage, (failed, of) in counts.items() if of)

    def _differ(self, condition: Condition) -> tuple[list[bool], list[bool]]:
        if condition not in self._known:
            level = BY_NAME[condition[0]].level if condition[0] else None
            healthy, now = self._heard[HEALTHY], self._heard.get(condition, self._heard[HEALTHY])
            vad = [level is Level.VAD and segments_differ(healthy[i].segments, now[i].segments) for i in self._probes]
            asr = [level is Level.ASR and answers_differ(healthy[i].answers, now[i].answers) for i in self._probes]
            self._known[condition] = (vad, asr)
        return self._known[condition]
