"""What is checked before a policy changes, whoever asks: a page, a client or the command line."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from speechpipe.control.review.policy_repository import Automation
from speechpipe.control.review.scopes import Scopes
from speechpipe.errors import InvalidParameter
from speechpipe.serving.automation import Degree
from speechpipe.serving.automation.policy import EVERYBODY

HOUR_S = 3600.0


@dataclass(frozen=True)
class PolicyChange:
    """What somebody wants to hold for a scope.

    Attributes:
        changes: of the policy, by field.
        actor: who wants it.
        reason: why; needed where everybody gets less automation.
        revision: the policy's from which the change was made; None: whatever it is.
        force: a tenant of which nothing is known is meant.
        confirm: the effect is known, for a change that takes automation from everybody.
    """

    changes: Mapping[str, Any]
    actor: str
    reason: str = ""
    revision: int | None = None
    force: bool = False
    confirm: bool = False


class ChangeChecks:
    """Reads the store; every method raises SQLAlchemyError if it cannot be used."""

    def __init__(self, automation: Automation, scopes: Scopes, clock: Callable[[], float]) -> None:
        self._automation = automation
        self._scopes = scopes
        self._clock = clock

    def scope(self, given: str, wanted: PolicyChange) -> str:
        """Return the scope that is meant by what somebody typed, if the change may be made.

        Raises:
            UnknownName: no such tenant is known.
            InvalidParameter: a value means nothing; a reason is missing, or holds a key; less automation for everybody
                was not confirmed: the message says what follows.
        """
        self._scopes.check(wanted.reason)
        scope = self._scopes.resolve(given.strip(), force=wanted.force)
        effect = self.effect(scope, wanted.changes)
        if effect and not wanted.reason.strip():
            message = "say why: everybody gets less automation"
            raise InvalidParameter(message, param="reason", cause="missing_reason")
        if effect and not wanted.confirm:
            raise InvalidParameter(effect, param="confirm", cause="unconfirmed")
        return scope

    def effect(self, scope: str, changes: Mapping[str, Any]) -> str:
        """Return what a change does that must be confirmed; empty: it needs no confirmation.

        Raises:
            InvalidParameter: a value means nothing.
        """
        if scope != EVERYBODY or "degree" not in changes:
            return ""
        before = self._automation.policies().get(EVERYBODY)
        was = before.policy.degree if before is not None else self._automation.base.degree
        degree = self._automation.base.changed(changes).degree
        return self._effect(was, degree) if degree.lower_than(was) else ""

    def _effect(self, was: Degree, degree: Degree) -> str:
        served = self._scopes.served(self._clock() - HOUR_S)
        uploads = served.pop("upload", 0)
        found = [f"default goes from {was} to {degree}. In the last hour that would have concerned {uploads} uploads"]
        follows = (
            "all wait for a person" if degree.waits else "those wait for a person of which the machine is not sure"
        )
        found.append(f"({follows}) and {sum(served.values())} live sessions")
        found.append("(refused)." if degree in (Degree.HUMAN_ONLY, Degree.SHADOW) else "(their finals are drafts).")
        return " ".join([*found, "Confirm to do it."])
