"""The verdict: which stage degraded, its evidence, and what would refute it; or that the data do not decide.

Direct evidence counts first: the server's own bookkeeping, and probes, which give a stage the same input every time. If
probes are answered as before and the live traffic is not, the input has changed. Without probes, the first stage in
the graph whose residual has shifted is blamed, not the first whose metrics have moved. Last comes the machine, which
makes people wait but makes no text wrong.

A verdict is about the traffic since its own onset: cases and probes from before it, of healthy traffic or of another
fault, do not count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from speechpipe.monitor.blame.contributions import Contribution, contributions
from speechpipe.monitor.blame.evidence import (
    DEFAULTS,
    Finding,
    Thresholds,
    all_changes,
    by_stage,
    findings,
    symptoms,
    together,
    without_pressure,
)
from speechpipe.monitor.blame.normal import Normal
from speechpipe.monitor.blame.onset import changes
from speechpipe.monitor.blame.precedence import above_first
from speechpipe.monitor.blame.probes import ProbeHistory, ProbeResult
from speechpipe.monitor.blame.reasons import path, reason, refuted_if
from speechpipe.monitor.cases import Cases
from speechpipe.monitor.spec import CascadeSpec, Stage

NO_STAGE = "none"
SHOWN = 8

LEAST_OF_A_GROUP = 10
"""Cases of a group that are judged together with those of others, where alone they would be too few."""


@dataclass(frozen=True)
class Verdict:
    """`blamed` is a stage's name or `none`. Times are unix seconds. A strength of 1 is enough to blame a stage."""

    blamed: str
    label: str  # the stage's label: input | vad | asr | infra | client | none
    decided: bool  # False: too little data; `reason` says how much more is needed
    reason: str
    also: tuple[str, ...] = ()  # labels of other stages with direct evidence: several faults at once
    perhaps: tuple[str, ...] = ()  # labels of further suspects, whose change may be a consequence or a second fault
    since: float | None = None
    cases: int = 0
    strengths: Mapping[str, float] = field(default_factory=dict)  # by label
    findings: tuple[Finding, ...] = ()
    probes: tuple[ProbeResult, ...] = ()
    path: tuple[str, ...] = ()  # the metrics that moved from the blamed stage on, in words
    contributions: tuple[Contribution, ...] = ()
    refuted_if: str = ""

    @property
    def ranking(self) -> tuple[str, ...]:
        """Labels, most suspect first; begins with `none` if no stage is blamed."""
        rest = sorted(self.strengths, key=lambda label: -self.strengths[label])
        return tuple(dict.fromkeys((self.label, *self.also, *rest)))


def label_of(stage: Stage) -> str:
    """Return the label that verdicts use for a stage."""
    return stage.blame or stage.name


def blame(
    normal: Normal,
    recent: Cases,
    probes: Sequence[ProbeResult] | ProbeHistory = (),
    thresholds: Thresholds = DEFAULTS,
    since: float | None = None,
) -> Verdict:
    """Return the verdict on the traffic since the last change in `recent`, unless `since` gives it (unix seconds).

    `probes`: results that count, or the history of all answers, of which those since the change count.
    """
    if since is not None:
        recent = recent.between(since, float("inf"))
    if len(recent) < thresholds.least_cases:
        return _too_few(len(recent), thresholds)
    if since is not None:
        return _verdict(normal, recent, _counted(probes, since), thresholds, since)
    starts = changes(normal, recent)
    if not starts:
        return _verdict(normal, recent, _counted(probes, None), thresholds, None)
    ends = [*starts[1:], len(recent)]
    found = _of_rows(normal, recent, (starts[-1], ends[-1]), probes, thresholds)
    first = len(starts) - 1
    while found.blamed != NO_STAGE and first:
        rows = starts[first - 1], ends[first - 1]
        if rows[1] - rows[0] < thresholds.least_cases:
            break
        before = _of_rows(normal, recent, rows, (), thresholds)
        if before.label != found.label:
            break
        first -= 1  # the same fault, which changed its extent
    if first < len(starts) - 1:
        found = _of_rows(normal, recent, (starts[first], ends[-1]), probes, thresholds)
    return found


def blame_together(
    parts: Sequence[tuple[Normal, Cases]],
    probes: Sequence[ProbeResult] | ProbeHistory = (),
    thresholds: Thresholds = DEFAULTS,
    since: float | None = None,
) -> Verdict:
    """Return the verdict on several groups of one bundle's traffic together, each with what is normal for it.

    It is about the traffic since `since` (unix seconds), or since the last change in any of the groups.
    """
    if since is None:
        starts = [float(cases.at[rows[-1]]) for normal, cases in parts if (rows := changes(normal, cases))]
        since = max(starts, default=None)
    windows = [(normal, cases if since is None else cases.between(since, float("inf"))) for normal, cases in parts]
    windows = [(normal, cases) for normal, cases in windows if len(cases)]
    count = sum(len(cases) for _, cases in windows)
    if count < thresholds.least_cases:
        return _too_few(count, thresholds)
    each = replace(thresholds, least_cases=LEAST_OF_A_GROUP)
    groups = [(all_changes(normal, cases, each), len(cases)) for normal, cases in windows]
    normal, window = max(windows, key=lambda part: len(part[1]))
    found = without_pressure(normal, together(groups, thresholds))
    verdict = _judged(normal, window, found, _counted(probes, since), thresholds, since)
    return replace(verdict, cases=count)


def _too_few(count: int, thresholds: Thresholds) -> Verdict:
    more = thresholds.least_cases - count
    said = f"too little data: {count} cases, {more} more are needed"
    return Verdict(NO_STAGE, NO_STAGE, decided=False, reason=said, cases=count)


def _of_rows(
    normal: Normal,
    recent: Cases,
    rows: tuple[int, int],
    probes: Sequence[ProbeResult] | ProbeHistory,
    thresholds: Thresholds,
) -> Verdict:
    """Return the verdict on the cases from one change to the next; on those before, too, if they are too few."""
    since = float(recent.at[rows[0]])
    first = max(0, min(rows[0], rows[1] - thresholds.least_cases))
    if first < rows[0]:  # what was before is in the means, which takes more certainty and not less
        thresholds = replace(thresholds, rang=frozenset())
    window = recent.take(np.arange(first, rows[1]))
    return _verdict(normal, window, _counted(probes, since), thresholds, since)


def _counted(probes: Sequence[ProbeResult] | ProbeHistory, since: float | None) -> Sequence[ProbeResult]:
    return probes.since(since) if isinstance(probes, ProbeHistory) else probes


def _verdict(
    normal: Normal,
    window: Cases,
    probes: Sequence[ProbeResult],
    thresholds: Thresholds,
    since: float | None,
) -> Verdict:
    return _judged(normal, window, findings(normal, window, thresholds), probes, thresholds, since)


def _judged(
    normal: Normal,
    window: Cases,
    found: Sequence[Finding],
    probes: Sequence[ProbeResult],
    thresholds: Thresholds,
    since: float | None,
) -> Verdict:
    spec = normal.spec
    passive = by_stage(found)
    probed = _probed(probes, thresholds)
    strengths = _with_probes(spec, found, probed) if probed else dict(passive)
    doubtful = _doubtful(spec, found, [one for one in probes if one.stage not in probed], thresholds)
    strengths |= doubtful
    strengths = _corroborated(spec, strengths, thresholds)
    if not probed:
        strengths = above_first(normal, window, found, strengths)
    suspects = [stage.name for stage in _in_order(spec, probed) if strengths.get(stage.name, 0.0) >= 1.0]
    in_doubt = {name for name, strength in doubtful.items() if strength < 1.0 <= passive.get(name, 0.0)}
    if in_doubt:  # what changed may have come through them, whatever it was: people who react are not to blame for it
        suspects = [name for name in suspects if name in probed or in_doubt.isdisjoint(_served_above(spec, name))]
    suspects = _little_last(spec, suspects, found, thresholds)
    direct = {name for name in suspects if name in probed or _is_direct(spec, name, passive)}
    for name, strength in by_stage(found, pressure=True).items():
        if strength >= 1.0 and name not in suspects:
            suspects.append(name)
            direct.add(name)
        strengths[name] = max(strengths.get(name, 0.0), strength)
    blamed = suspects[0] if suspects else NO_STAGE
    stage = next((stage for stage in spec.stages if stage.name == blamed), None)
    label = NO_STAGE if stage is None else label_of(stage)
    labels = {one.name: label_of(one) for one in spec.stages}
    by_label: dict[str, float] = {}
    for name, strength in strengths.items():
        by_label[labels[name]] = max(by_label.get(labels[name], 0.0), strength)
    others = [name for name in suspects[1:] if labels[name] != label]
    also = dict.fromkeys(labels[name] for name in others if name in direct)
    shown = tuple(one for one in found if one.strength >= 1.0)[:SHOWN]
    steps = path(spec, found, symptoms(normal, window, thresholds), blamed)
    return Verdict(
        blamed=blamed,
        label=label,
        decided=True,
        reason=reason(spec, stage, found, probed, steps),
        also=tuple(also),
        perhaps=tuple(dict.fromkeys(labels[name] for name in others if labels[name] not in also)),
        since=since,
        cases=len(window),
        strengths=by_label,
        findings=shown,
        probes=tuple(probes),
        path=steps,
        contributions=contributions(normal, window, found) if stage is not None and stage.served else (),
        refuted_if=refuted_if(spec, stage, shown),
    )


def _probed(probes: Sequence[ProbeResult], thresholds: Thresholds) -> dict[str, float]:
    """Return the strength of each stage that probes decide on. It takes more of them to acquit than to convict."""
    found = {}
    for one in probes:
        strength = one.strength(thresholds.probes)
        if one.of >= (thresholds.least_probes if strength >= 1.0 else thresholds.acquitting_probes):
            found[one.stage] = strength
    return found


def _doubtful(
    spec: CascadeSpec, found: Sequence[Finding], probes: Sequence[ProbeResult], thresholds: Thresholds
) -> dict[str, float]:
    """Return the strengths of stages that have answered some probes as before, but too few to acquit them.

    The more there are, the more is asked of what only their inputs do not explain; not of metrics of live sessions.
    """
    strengths = {}
    for one in probes:
        if one.failed:
            continue
        mine = [finding for finding in found if finding.stage == one.stage]
        live = [finding for finding in mine if spec.metric(finding.metric).live]
        left = 1.0 - one.of / thresholds.acquitting_probes
        others = by_stage([finding for finding in mine if finding not in live]).get(one.stage, 0.0)
        strengths[one.stage] = max(by_stage(live).get(one.stage, 0.0), others * max(0.0, left))
    return strengths


def _served_above(spec: CascadeSpec, name: str) -> set[str]:
    """Return the names of the stages whose data reach a stage; none for one that serves no data."""
    stage = next(stage for stage in spec.stages if stage.name == name)
    return {one.name for one in spec.above(name)} if stage.served else set()


def _in_order(spec: CascadeSpec, probed: Mapping[str, float]) -> list[Stage]:
    """Return the stages in the order of suspicion.

    First those that serve no data, then those that answer probes differently, which no input explains, then the others
    in the order of the data.
    """
    return sorted(spec.stages, key=lambda stage: (stage.served, probed.get(stage.name, 0.0) < 1.0))


def _little_last(
    spec: CascadeSpec, suspects: Sequence[str], found: Sequence[Finding], thresholds: Thresholds
) -> list[str]:
    """Return the suspects, with bookkeeping that counts a few failures behind a stage that may be why they fail."""
    feeding = {parent for stage in spec.stages for parent in stage.parents}
    if feeding.isdisjoint(suspects):
        return list(suspects)
    little = set()
    for stage in spec.stages:
        mine = [one for one in found if one.stage == stage.name and one.strength >= 1.0]
        if not stage.served and all(one.kind == "share" and abs(one.effect) < thresholds.share for one in mine):
            little.add(stage.name)
    return sorted(suspects, key=lambda name: name in little)


def _is_direct(spec: CascadeSpec, name: str, passive: Mapping[str, float]) -> bool:
    """Whether a stage's own metrics are evidence by themselves: bookkeeping, or a root, which no stage explains."""
    stage = next(stage for stage in spec.stages if stage.name == name)
    return not stage.served or (not stage.parents and passive.get(name, 0.0) >= 1.0)


def _with_probes(spec: CascadeSpec, found: Sequence[Finding], probed: Mapping[str, float]) -> dict[str, float]:
    """Let probes decide on the stages they cover. If those pass, unexplained changes there count for the input.

    They say nothing about metrics of live sessions only. Where nothing else is unexplained, those are evidence against
    their stages as without probes.
    """
    strengths = {**by_stage(found), **probed}
    if max(probed.values()) >= 1.0:
        return strengths
    live = {name for name, metric in spec.by_name.items() if metric.live}
    others = by_stage([one for one in found if one.metric not in live])
    unexplained = max((others.get(name, 0.0) for name in probed), default=0.0)
    for stage in spec.stages:
        if stage.served and not stage.parents:
            strengths[stage.name] = max(strengths.get(stage.name, 0.0), unexplained)
    if unexplained < 1.0:
        of_live = by_stage([one for one in found if one.metric in live])
        strengths |= {name: max(strength, of_live.get(name, 0.0)) for name, strength in probed.items()}
    return strengths


def _corroborated(spec: CascadeSpec, strengths: Mapping[str, float], thresholds: Thresholds) -> dict[str, float]:
    """If the last stage (the users) has changed, less is enough for the strongest stage above it.

    But not for a change of the users that is far larger than any above: that one is their own.
    """
    found = dict(strengths)
    feeding = {parent for stage in spec.stages for parent in stage.parents}
    last = [stage for stage in spec.stages if stage.served and stage.parents and stage.name not in feeding]
    for stage in last:
        reaction = found.get(stage.name, 0.0)
        if reaction < thresholds.reacting:
            continue
        enough = max(thresholds.upstream, 1.0 - min(1.0, reaction) / 2, reaction / 2)
        above = [other.name for other in spec.stages if other.served and other.name in feeding]
        half = [name for name in above if enough <= found.get(name, 0.0) < 1.0]
        if half and all(found.get(name, 0.0) < 1.0 for name in above):
            strongest = max(half, key=lambda name: found[name])
            found[strongest] = 1.0
    return found
