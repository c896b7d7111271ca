"""When a retraining begins by itself. Pure: facts in, a decision and its cause out.

Blame first: no recognizer is retrained when what degraded is the input, the VAD, the machine or what people do.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from speechpipe.control.training import Kind
from speechpipe.errors import BadInput

MODES = ("manual", "auto")
SEVERITIES = ("investigate", "page")


@dataclass(frozen=True)
class Policy:
    """What an operator wants. Times in hours; counts of reviewed segments."""

    mode: str = "manual"
    metrics: tuple[str, ...] = ()  # whose alarms count; empty: any that a stage to retrain is blamed for
    severity: str = "investigate"  # the least
    least_reviews: int = 40  # since the last retraining
    cooldown_h: float = 24.0
    budget_h: float = 8.0  # of training in seven days
    reviews_days: float = 90.0  # learnt from
    check: str = ""
    replay: str = ""
    plan: str = ""  # of the rollout, a file whose candidate is put in; empty: shadow, 5 %, 25 %, 50 %
    approval: str = "promotion"  # in that plan: a person before the promotion | before every step | nobody
    seed: int = 0


@dataclass(frozen=True)
class Firing:
    """An alarm that fires, and whom blame names for it (empty: nobody yet)."""

    metric: str
    severity: str
    group: str
    blamed: str
    reason: str = ""


@dataclass(frozen=True)
class Facts:
    """What is so. Times are unix seconds; `recipe`: how the champion's recognizer is retrained, if it can be."""

    now: float
    champion: str
    recipe: Kind | None
    alarms: Sequence[Firing]
    reviews: int  # since the last retraining
    last_at: float = 0.0  # of the last retraining's beginning
    spent_h: float = 0.0  # on training in seven days
    busy: str = ""  # the retraining that is not over
    rollout: str = ""  # the rollout that is under way


@dataclass(frozen=True)
class Decision:
    """`begin` is what to retrain; None: nothing, for `cause`."""

    begin: Kind | None
    cause: str
    reason: str


def decide(policy: Policy, facts: Facts) -> Decision:
    """Return whether a retraining begins now; the first cause against it that holds is named."""
    counted = [alarm for alarm in facts.alarms if _counts(alarm, policy)]
    if not counted:
        return Decision(None, "no_alarm", "no alarm asks for it")
    blamed = [alarm for alarm in counted if alarm.blamed in ("asr", "vad")]
    if not blamed:
        alarm = counted[0]
        whom = alarm.blamed or "nobody yet"
        return Decision(None, "blamed_elsewhere", f"{alarm.metric} rings, and blame names {whom}: {alarm.reason}")
    alarm = min(blamed, key=lambda one: not one.metric.startswith(one.blamed))  # one of the stage's own, if it rings
    why = f"{alarm.metric} rings on {alarm.group}, blame names {alarm.blamed}: {alarm.reason}"
    kind = Kind.VAD if alarm.blamed == "vad" else facts.recipe
    against = _against(policy, facts, kind)
    if against is not None:
        return Decision(None, *against)
    return Decision(kind, "begin", why)


def _counts(alarm: Firing, policy: Policy) -> bool:
    loud = SEVERITIES.index(alarm.severity) >= SEVERITIES.index(policy.severity)
    return loud and (not policy.metrics or alarm.metric in policy.metrics)


def _against(policy: Policy, facts: Facts, kind: Kind | None) -> tuple[str, str] | None:
    waited_h = (facts.now - facts.last_at) / 3600
    reasons = (
        (kind is None, "no_recipe", f"the recognizer of {facts.champion} cannot be retrained"),
        (bool(facts.busy), "busy", f"{facts.busy} is not over"),
        (bool(facts.rollout), "rollout_under_way", f"{facts.rollout} is under way: what came out could not enter"),
        (
            facts.reviews < policy.least_reviews,
            "too_few_reviews",
            f"{facts.reviews} segments were reviewed since the last one, {policy.least_reviews} are asked for",
        ),
        (
            bool(facts.last_at) and waited_h < policy.cooldown_h,
            "cooldown",
            f"the last one was {waited_h:.1f} h ago, {policy.cooldown_h:g} h are asked for",
        ),
        (
            facts.spent_h >= policy.budget_h,
            "budget",
            f"{facts.spent_h:.1f} h of training in seven days, {policy.budget_h:g} h are allowed",
        ),
        (policy.mode == "manual", "manual", "somebody must begin it: speechpipe retrain"),
    )
    return next(((cause, reason) for holds, cause, reason in reasons if holds), None)


def parse(text: str) -> Policy:
    """Read a policy from TOML.

    Raises:
        BadInput: it is none; the message names the key.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"the policy is not TOML: {error}", cause="bad_policy") from error
    known = {field.name: field for field in fields(Policy)}
    if unknown := sorted(set(data) - set(known)):
        raise _bad(f"unknown key {unknown[0]}; known: {', '.join(known)}")
    return _checked(Policy(**{name: _value(name, value) for name, value in data.items()}))


def _value(name: str, value: Any) -> Any:
    default = getattr(Policy(), name)
    if isinstance(default, tuple):
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise _bad(f"{name} must be a list of names")
        return tuple(value)
    if isinstance(default, str):
        if not isinstance(value, str):
            raise _bad(f"{name} must be text, not {value!r}")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise _bad(f"{name} must be a number, 0 at least, not {value!r}")
    return type(default)(value)


CHOICES: Mapping[str, Sequence[str]] = {
    "mode": MODES,
    "severity": SEVERITIES,
    "approval": ("promotion", "steps", "none"),
}


def _checked(policy: Policy) -> Policy:
    for name, known in CHOICES.items():
        if getattr(policy, name) not in known:
            raise _bad(f"{name} must be one of {', '.join(known)}, not {getattr(policy, name)!r}")
    return policy


def _bad(message: str) -> BadInput:
    return BadInput(f"the policy: {message}", cause="bad_policy")
