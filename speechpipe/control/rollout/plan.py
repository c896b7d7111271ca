"""Rollout plans: the candidate, the steps and the evidence they need. Written by operators in TOML."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from speechpipe.control.rollout import Mode
from speechpipe.errors import BadInput
from speechpipe.foundation.text_files import parse_toml

CASES = ("new", "assist", "replace")
APPROVALS = ("promotion", "steps", "none")
"""What needs an operator's approval: the promotion, every step, or nothing."""

MOST_STEPS = 12


@dataclass(frozen=True)
class Step:
    """A step. It ends when the evidence of its own sessions is complete."""

    mode: Mode
    weight: float = 0.0  # share of the sessions that the candidate answers
    margin: float = 2.0  # to be refuted: this many times the champion's rate of a guard's events
    harm: float = 0.05  # in shadow, to be refuted: net harm on this share of the sessions
    least_sessions: int = 50  # of the candidate; of a canary, units that were drawn for it: sessions, or users

    @property
    def label(self) -> str:
        """The step in words."""
        return self.mode.value if self.mode is not Mode.CANARY else f"canary {100 * self.weight:g} %"


@dataclass(frozen=True)
class Plan:
    """A validated plan. `guards` maps each guard to the rate of events below which it does not matter."""

    candidate: str
    case: str = "replace"
    steps: tuple[Step, ...] = ()
    alpha: float = 0.01  # chance of rolling back an equally good candidate, over the whole rollout
    alpha_promote: float = 0.05  # chance of a step forward with a candidate at the margin
    approval: str = "promotion"
    mirror_share: float = 1.0  # share of the sessions that are copied in shadow
    slow_s: float = 0.5  # a longer time from endpoint to final text counts as slow
    guards: Mapping[str, float] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return the plan as data for `read`."""
        return asdict(self) | {
            "steps": [asdict(step) | {"mode": step.mode.value} for step in self.steps],
            "guards": dict(self.guards),
        }


def parse(text: str, known_guards: Mapping[str, float]) -> Plan:
    """Return the plan in a TOML text.

    Raises:
        BadInput: it is not TOML, or not a plan.
    """
    try:
        data = parse_toml(text)
    except ValueError as error:
        raise BadInput(f"the plan is not TOML: {error}", cause="bad_plan") from error
    return read(data, known_guards)


def read(data: Mapping[str, Any], known_guards: Mapping[str, float]) -> Plan:
    """Return the plan in parsed TOML; guards that it does not name have the rates of `known_guards`.

    Raises:
        BadInput: a key is unknown, missing or out of bounds; the message names it.
    """
    names = {"candidate", "case", "steps", "alpha", "alpha_promote", "approval", "mirror_share", "slow_s", "guards"}
    _only(data, names, "the plan")
    steps = data.get("steps")
    if not isinstance(steps, list | tuple) or not 1 <= len(steps) <= MOST_STEPS:
        raise _bad(f"a plan has 1 to {MOST_STEPS} [[steps]]")
    guards = data.get("guards", {})
    if not isinstance(guards, Mapping):
        raise _bad("[guards] is a table of rates")
    _only(guards, set(known_guards), "[guards]")
    plan = Plan(
        candidate=_text(data, "candidate"),
        case=_one_of(data, "case", CASES, "replace"),
        steps=tuple(_step(step, number) for number, step in enumerate(steps, 1)),
        alpha=_number(data, "alpha", 0.01, 1e-6, 0.2),
        alpha_promote=_number(data, "alpha_promote", 0.05, 1e-6, 0.2),
        approval=_one_of(data, "approval", APPROVALS, "promotion"),
        mirror_share=_number(data, "mirror_share", 1.0, 0.001, 1.0),
        slow_s=_number(data, "slow_s", 0.5, 0.001, 60.0),
        guards=dict(known_guards) | {name: _number(guards, name, 0.0, 0.0, 1.0) for name in guards},
    )
    weights = [step.weight for step in plan.steps if step.mode is Mode.CANARY]
    if weights != sorted(weights):
        raise _bad("weights of canary steps must not fall")
    modes = [step.mode for step in plan.steps]
    if Mode.SHADOW in modes[modes.index(Mode.CANARY) if Mode.CANARY in modes else len(modes) :]:
        raise _bad("shadow steps must come before canary steps")
    if Mode.BLUE_GREEN in modes[:-1]:
        raise _bad("blue_green must be the last step, because it sends all sessions to the candidate")
    if modes[-1] is Mode.SHADOW:
        raise _bad("the last step must be canary or blue_green: shadow alone cannot lead to a promotion")
    return plan


def _step(data: Any, number: int) -> Step:
    where = f"step {number}"
    if not isinstance(data, Mapping):
        raise _bad(f"{where} must be a table")
    _only(data, {"mode", "weight", "margin", "harm", "least_sessions"}, where)
    mode = Mode(_one_of(data, "mode", tuple(Mode), "", where))
    weight = _number(data, "weight", 0.0, 0.0, 1.0, where)
    if mode is Mode.CANARY and not 0.001 <= weight <= 0.9:
        raise _bad(f"{where}: a canary needs a weight in 0.001..0.9")
    return Step(
        mode,
        weight if mode is Mode.CANARY else float(mode is Mode.BLUE_GREEN),
        _number(data, "margin", 2.0, 1.05, 20.0, where),
        _number(data, "harm", 0.05, 0.001, 0.5, where),
        int(_number(data, "least_sessions", 50, 1, 1e7, where)),
    )


def _bad(message: str) -> BadInput:
    return BadInput(message, cause="bad_plan")


def _only(data: Mapping[str, Any], names: set[str], where: str) -> None:
    if unknown := sorted(set(data) - names):
        raise _bad(f"{where} has an unknown key {unknown[0]!r}; known: {', '.join(sorted(names))}")


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value:
        raise _bad(f'the plan needs {name} = "..."')
    return value


def _one_of(data: Mapping[str, Any], name: str, allowed: tuple[str, ...], default: str, where: str = "the plan") -> str:
    value = data.get(name, default)
    if value not in allowed:
        raise _bad(f"{where}: {name} must be one of {', '.join(allowed)}, not {value!r}")
    return str(value)


def _number(
    data: Mapping[str, Any], name: str, default: float, least: float, most: float, where: str = "the plan"
) -> float:
    value = data.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise _bad(f"{where}: {name} must be a number in {least:g}..{most:g}, not {value!r}")
    return float(value)


# ---- templates for the deployment cases ----

_HEAD = """# {title}
# Edit, then: speechpipe rollout start THIS_FILE
case = "{case}"
candidate = {candidate}
approval = "{approval}"      # by an operator: "promotion" (at the end), "steps" (every step), "none"
alpha = 0.01                 # chance of rolling back an equally good candidate, over the whole rollout
alpha_promote = 0.05         # chance of a step forward with a candidate at the margin
slow_s = 0.5                 # from the end of speech to the text, in seconds; longer counts as slow
"""

_SHADOW = """
[[steps]]                    # the candidate gets copies of sessions; its results are not served
mode = "shadow"
harm = 0.05                  # to be refuted: net harm on 5 % of the sessions
least_sessions = {least}
"""

_CANARY = """
[[steps]]
mode = "canary"
weight = {weight}
margin = {margin}                 # to be refuted: this many times the champion's rate of harmful events
"""

_GREEN = """
[[steps]]                    # all new sessions at once; the champion stays loaded for a rollback
mode = "blue_green"
margin = 1.5
least_sessions = 200
"""

_GUARDS = """
[guards]                     # rates of events below these do not matter
{rows}
"""

TITLES = {
    "new": "A new capability: a small canary, then a ramp, each step on evidence.",
    "assist": "Automating a manual task: degree shadow, then assist (speechpipe automation); every step is approved.",
    "replace": "Replacing a running system: shadow beside the champion, canary, ramp.",
}


def _quoted(text: str) -> str:
    """Return a TOML basic string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def template(case: str, candidate: str, known_guards: Mapping[str, float], *, side_by_side: bool = True) -> str:
    """Return a plan for a deployment case as TOML to edit; without `side_by_side` its only served step is blue/green.

    Raises:
        BadInput: there is no such case.
    """
    if case not in CASES:
        raise _bad(f"case must be one of {', '.join(CASES)}, not {case!r}")
    approval = "steps" if case == "assist" else "promotion"
    head = _HEAD.format(title=TITLES[case], case=case, candidate=_quoted(candidate), approval=approval)
    ramp: list[tuple[float, float]] = [(0.05, 3.0), (0.25, 2.0), (0.5, 1.5)]
    if case == "new":
        ramp = [(0.01, 5.0), *ramp]
    steps: list[str] = []
    canary: Callable[[tuple[float, float]], str] = lambda step: _CANARY.format(weight=step[0], margin=step[1])  # noqa: E731
    if case != "new":
        steps.append(_SHADOW.format(least=500 if case == "assist" else 100))
    steps += [canary(step) for step in ramp] if side_by_side else [_GREEN]
    rows = "\n".join(f"{name} = {rate:g}" for name, rate in known_guards.items())
    return head + "".join(steps) + _GUARDS.format(rows=rows)
