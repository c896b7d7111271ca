"""The retraining policy: decides from facts whether a retraining starts, and why. Pure, except for `read_policy`.

Blame decides first: no recognizer is retrained if the input, the VAD, the machine or the users degraded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from speechpipe.control.training import Kind
from speechpipe.errors import BadInput
from speechpipe.foundation.text_files import naming, parse_toml, read_text

MODES = ("manual", "auto")
SEVERITIES = ("investigate", "page")


@dataclass(frozen=True)
class Policy:
    """An operator's policy. Times are in hours; counts are of reviewed segments."""

    mode: str = "manual"
    metrics: tuple[str, ...] = ()  # whose alarms count; empty: all of a stage that can be retrained
    severity: str = "investigate"  # the lowest that counts
    least_reviews: int = 40  # since the last retraining
    cooldown_h: float = 24.0
    budget_h: float = 8.0  # training time in seven days
    reviews_days: float = 90.0  # reviews of this long are used
    check: str = ""
    replay: str = ""
    plan: str = ""  # path of the rollout's plan, whose candidate is replaced; empty: shadow, 5 %, 25 %, 50 %
    approval: str = "promotion"  # without a plan, what an operator approves: promotion | steps | none
    seed: int = 0


@dataclass(frozen=True)
class Firing:
    """A firing alarm, and the stage that blame names for it (empty: none yet)."""

    metric: str
    severity: str
    group: str
    blamed: str
    reason: str = ""


@dataclass(frozen=True)
class Facts:
    """The facts. Times are unix seconds; `recipe`: how the champion's recognizer is retrained, None: it cannot be."""

    now: float
    champion: str
    recipe: Kind | None
    alarms: Sequence[Firing]
    reviews: int  # since the last retraining
    last_at: float = 0.0  # when the last retraining was requested
    spent_h: float = 0.0  # on training in seven days
    busy: str = ""  # the retraining in progress
    rollout: str = ""  # the rollout in progress


@dataclass(frozen=True)
class Decision:
    """`begin` is what to retrain; None: nothing, for `cause`."""

    begin: Kind | None
    cause: str
    reason: str


def decide(policy: Policy, facts: Facts) -> Decision:
    """Return whether a retraining starts now; if not, the first cause that prevents it."""
    counted = [alarm for alarm in facts.alarms if _counts(alarm, policy)]
    if not counted:
        return Decision(None, "no_alarm", "no alarm asks for a retraining")
    blamed = [alarm for alarm in counted if alarm.blamed in ("asr", "vad")]
    if not blamed:
        alarm = counted[0]
        whom = alarm.blamed or "no stage yet"
        return Decision(None, "blamed_elsewhere", f"{alarm.metric} fires, and blame names {whom}: {alarm.reason}")
    alarm = min(blamed, key=lambda one: not one.metric.startswith(one.blamed))  # prefer an alarm of the blamed stage
    why = f"{alarm.metric} fires on {alarm.group}, blame names {alarm.blamed}: {alarm.reason}"
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
        (bool(facts.busy), "busy", f"{facts.busy} is in progress"),
        (bool(facts.rollout), "rollout_under_way", f"{facts.rollout} is in progress: a candidate could not start"),
        (
            facts.reviews < policy.least_reviews,
            "too_few_reviews",
            f"{facts.reviews} segments were reviewed since the last retraining, {policy.least_reviews} are needed",
        ),
        (
            bool(facts.last_at) and waited_h < policy.cooldown_h,
            "cooldown",
            f"the last retraining was {waited_h:.1f} h ago, {policy.cooldown_h:g} h are required",
        ),
        (
            facts.spent_h >= policy.budget_h,
            "budget",
            f"{facts.spent_h:.1f} h of training in seven days, {policy.budget_h:g} h are allowed",
        ),
        (policy.mode == "manual", "manual", "the mode is manual: start it with speechpipe retrain"),
    )
    return next(((cause, reason) for holds, cause, reason in reasons if holds), None)


def read_policy(path: Path) -> Policy:
    """Return the policy in a TOML file.

    Raises:
        BadInput: it cannot be read, or is not a policy; the message names the file.
    """
    with naming(path):
        return parse(read_text(path, cause="bad_policy"))


def parse(text: str) -> Policy:
    """Return the policy in a TOML text.

    Raises:
        BadInput: it is not a policy; the message names the key.
    """
    try:
        data = parse_toml(text)
    except ValueError as error:
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
        raise _bad(f"{name} must be a number of at least 0, not {value!r}")
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
