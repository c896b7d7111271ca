"""The automation policy of a tenant, and its effect on one session's results."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from speechpipe.errors import InvalidParameter
from speechpipe.foundation.stats.calibration import NO_TABLE, Calibration, ConfidenceTable
from speechpipe.serving.automation import Author, Degree

EVERYBODY = "default"
"""The scope of all tenants without their own policy."""


@dataclass(frozen=True)
class Policy:
    """The automation policy of one scope: a tenant, or all tenants without their own."""

    degree: Degree = Degree.FULL
    bound: float = 0.05  # largest mean word error of texts that `partial` delivers without review
    delta: float = 0.05  # largest chance that the bound does not hold
    audit_share: float = 0.02  # share of sessions reviewed at random; larger for longer ones (`sampling.py`)
    doubt: float = 0.5  # confidence below which a word is marked and a session counts as doubtful
    doubtful_share: float = 0.2  # share of the doubtful sessions that is reviewed
    disagreement_share: float = 0.5  # share of the sessions reviewed for which a bundle in shadow has another text
    demote: bool = True  # lower the degree by one when an alarm of this scope fires

    def changed(self, changes: Mapping[str, Any]) -> "Policy":
        """Return a copy of the policy with changed values.

        Raises:
            InvalidParameter: a name is unknown, or a value is invalid.
        """
        known = {field.name for field in fields(self)}
        values: dict[str, Any] = {}
        for name, value in changes.items():
            if name not in known:
                raise InvalidParameter(f"unknown field {name!r}; known: {', '.join(sorted(known))}", param=name)
            values[name] = _read(name, value)
        return replace(self, **values)

    def document(self) -> dict[str, Any]:
        """Return the policy as plain data."""
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
    """The policy for one session, with what its bundle's confidences mean.

    Only reviews give a `threshold`. The table of the recognizer's card was measured on other recordings: it says what a
    confidence means where reviews do not say it, and delivers nothing.
    """

    policy: Policy = NOTHING_SAID
    calibration: Calibration = UNKNOWN  # of reviews
    threshold: float | None = None  # confidence from which `partial` delivers without review; None: nothing
    followed: bool = False  # whether a policy was set; without one, sessions are not reviewed
    table: ConfidenceTable = NO_TABLE  # of the recognizer's card

    @property
    def degree(self) -> Degree:
        """The degree of automation."""
        return self.policy.degree

    def accepts(self, confidence: float | None) -> bool:
        """Return whether a text of this confidence is delivered without review."""
        if self.degree is Degree.FULL:
            return True
        if self.degree is not Degree.PARTIAL or self.threshold is None or confidence is None:
            return False
        return confidence >= self.threshold

    def calibrated(self, confidence: float | None) -> float | None:
        """Return the expected share of right words at this confidence of a segment.

        It is known from reviews, or from the table of the recognizer's card. None: there is neither.
        """
        return _at(self.calibration if self.calibration.edges else self.table.utterances.calibration, confidence)

    def calibrated_word(self, confidence: float | None) -> float | None:
        """Return the probability that a word of this confidence is right; None: the card has no table."""
        return _at(self.table.words.calibration, confidence)

    def label(self, confidence: float | None) -> dict[str, Any]:
        """Return the automation fields of a machine result's document."""
        return {
            "degree": self.degree,
            "author": Author.MACHINE,
            "accepted": self.accepts(confidence),
            "calibrated_confidence": self.calibrated(confidence),
        }


def _at(calibration: Calibration, confidence: float | None) -> float | None:
    return None if confidence is None or not calibration.edges else round(float(calibration(confidence)), 4)


NOT_FOLLOWED = EffectivePolicy()
"""Without a policy: results are delivered automatically and not reviewed."""
