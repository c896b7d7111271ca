"""Verdicts in words: the reason, the path of the change, and what would refute it."""

from collections.abc import Mapping, Sequence

from speechpipe.monitor.blame.evidence import Finding
from speechpipe.monitor.spec import CascadeSpec, Stage


def path(spec: CascadeSpec, found: Sequence[Finding], moved: Sequence[Finding], blamed: str) -> tuple[str, ...]:
    """Return the strongest change of each stage from the blamed one on, explained or not, in words."""
    if all(stage.name != blamed for stage in spec.stages):
        return ()
    below = {blamed}
    for stage in spec.stages:
        if below & set(stage.parents):
            below.add(stage.name)
    said = []
    for stage in spec.stages:
        if stage.name not in below:
            continue
        mine = [one for one in (*found, *moved) if one.stage == stage.name and one.strength >= 1.0]
        if mine:
            said.append(describe(spec, mine[0]))
    return tuple(said)


def describe(spec: CascadeSpec, finding: Finding) -> str:
    """Return a finding as a sentence without its full stop."""
    metric = spec.metric(finding.metric)
    if finding.kind == "presence":
        return f"{metric.help}: present in {finding.value:.0%} of the cases, was {finding.expected:.0%}"
    way = "rose" if finding.value > finding.expected else "fell"
    unit = f" {metric.unit}" if metric.unit else ""
    before = "was" if finding.kind == "symptom" else "expected"
    return f"{metric.help} {way} to {finding.value:.3g}{unit}, {before} {finding.expected:.3g}"


def reason(
    spec: CascadeSpec,
    stage: Stage | None,
    found: Sequence[Finding],
    probed: Mapping[str, float],
    steps: Sequence[str],
) -> str:
    """Return why a stage was blamed, or none was.

    `probed`: the strengths of the stages that probes decide on; `steps`: what `path` returned.
    """
    if stage is None:
        strongest = next((one for one in found if one.strength >= 0.5 and not one.pressure), None)
        pressed = next((one for one in found if one.strength >= 0.5 and one.pressure), None)
        said = "nothing relevant has changed"
        if strongest is not None:
            said = f"not enough to blame a stage; the strongest change is: {describe(spec, strongest)}"
        if pressed is not None:
            said += f"; the machine is under more pressure, too little for people to notice ({describe(spec, pressed)})"
        return said
    title = stage.title
    if probed.get(stage.name, 0.0) >= 1.0:
        return f"{title}: given the same input as before, it answers probes differently" + _after(steps)
    if not stage.served:
        return f"{title}: the service's own metrics changed" + _after(steps)
    if not stage.parents:
        well = "; the stages answer probes as before" if probed else ""
        return f"{title}: the input has changed{well}" + _after(steps)
    return f"{title}: it changed in a way that its input does not explain" + _after(steps)


def _after(steps: Sequence[str]) -> str:
    return f" ({' -> '.join(steps)})" if steps else ""


def refuted_if(spec: CascadeSpec, stage: Stage | None, found: Sequence[Finding]) -> str:
    """Return the observation that would refute the verdict; empty if no stage is blamed."""
    if stage is None:
        return ""
    symptom = spec.metric(found[0].metric).help if found else "the symptom"
    if not stage.served:
        return f"refuted if the same inputs, run again in a clean process, give the recorded answers ({symptom})"
    if not stage.parents:
        return f"refuted if inputs from before the change, sent now, show the same {symptom}"
    if not any(stage.name in other.parents for other in spec.stages):
        return f"refuted if users who are shown the pinned output behave in the same way ({symptom})"
    return f"refuted if the pinned {stage.title}, given today's inputs, shows the same {symptom}"
