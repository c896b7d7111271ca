"""What an operator says of a tenant's results, and what follows for one result."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from speechpipe.errors import InvalidParameter
from speechpipe.foundation.stats.calibration import Calibration
from speechpipe.serving.automation import Author, Degree

EVERYBODY = "default"
"""The scope of all tenants that have none of their own."""


@dataclass(frozen=True)
class Policy:
    """How much the machine may do alone for one scope."""

    degree: Degree = Degree.FULL
    bound: float = 0.05  # of the mean word error of what *partial* delivers unseen
    delta: float = 0.05  # chance that the bound is broken
    audit_share: float = 0.02  # of the sessions, drawn at random; of longer ones more (`draw.audit_chance`)
    doubt: float = 0.5  # confidence below which a word is marked and a session counts as doubtful
    doubtful_share: float = 0.2  # of the doubtful sessions
    disagreement_share: float = 0.5  # of the sessions that a shadowing bundle hears otherwise
    demote: bool = True  # by one degree, when an alarm of this scope fires

    def changed(self, changes: Mapping[str, Any]) -> "Policy":
        """Return the policy with some values changed.

        Raises:
            InvalidParameter: an unknown name, or a value that means nothing.
        """
        known = {field.name for field in fields(self)}
        values: dict[str, Any] = {}
        for name, value in changes.items():
            if name not in known:
                raise InvalidParameter(f"unknown field {name!r}; known: {', '.join(sorted(known))}", param=name)
            values[name] = _read(name, value)
        return replace(self, **values)

    def document(self) -> dict[str, Any]:
        """Return it as data."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _read(name: str, value: Any) -> Any:
    if name == "degree":
        if value not in list(Degree):
            raise InvalidParameter(f"degree must be one of {', '.join(Degree)}, not {value!r}", param=name)
        return Degree(value)
    if name == "demote":
        if not isinstance(value, bool):
            raise InvalidParameter("demote must be true or false", param=name)
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidParameter(f"{name} must be a number", param=name)
    least, most = (1e-3, 0.5) if name in ("bound", "delta") else (0.0, 1.0)
    if not least <= value <= most:
        raise InvalidParameter(f"{name} must be between {least:g} and {most:g}", param=name)
    return float(value)


NOTHING_SAID = Policy()
UNKNOWN = Calibration((), ())


@dataclass(frozen=True)
class EffectivePolicy:
    """What holds for one session: the policy of its tenant, and what is known of its bundle's confidence."""

    policy: Policy = NOTHING_SAID
    calibration: Calibration = UNKNOWN
    threshold: float | None = None  # confidence from which *partial* delivers unseen; None: nothing
    followed: bool = False  # whether anybody has said so: nobody reviews what nobody asked for

    @property
    def degree(self) -> Degree:
        """How much the machine may do alone."""
        return self.policy.degree

    def accepts(self, confidence: float | None) -> bool:
        """Return whether a text of this confidence is delivered unseen."""
        if self.degree is Degree.FULL:
            return True
        if self.degree is not Degree.PARTIAL or self.threshold is None or confidence is None:
            return False
        return confidence >= self.threshold

    def calibrated(self, confidence: float | None) -> float | None:
        """Return the share of words that are right at this confidence; None if nothing was reviewed yet."""
        if confidence is None or not self.calibration.edges:
            return None
        return float(self.calibration(confidence))

    def label(self, confidence: float | None) -> dict[str, Any]:
        """Return what every result of the machine says of itself."""
        return {
            "degree": self.degree,
            "author": Author.MACHINE,
            "accepted": self.accepts(confidence),
            "calibrated_confidence": self.calibrated(confidence),
        }


NOT_FOLLOWED = EffectivePolicy()
"""Where nobody has said anything: the machine answers, nobody looks."""
