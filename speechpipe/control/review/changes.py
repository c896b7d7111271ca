"""Checks before an automation policy changes, for pages, API clients and the command line."""

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
    """A requested change of a scope's policy.

    Attributes:
        changes: the fields to change.
        actor: name of the operator or client.
        reason: required for a change that lowers automation for all tenants.
        revision: the revision that the change is based on; None: the current one.
        force: accept a tenant that is not known yet.
        confirm: the actor has confirmed the effect of a change that lowers automation for all tenants.
    """

    changes: Mapping[str, Any]
    actor: str
    reason: str = ""
    revision: int | None = None
    force: bool = False
    confirm: bool = False


class ChangeChecks:
    """Reads the store. Every method raises SQLAlchemyError if it cannot be used."""

    def __init__(self, automation: Automation, scopes: Scopes, clock: Callable[[], float]) -> None:
        self._automation = automation
        self._scopes = scopes
        self._clock = clock

    def scope(self, given: str, wanted: PolicyChange) -> str:
        """Return the scope that a request names, if the change may be made.

        Raises:
            UnknownName: there is no such tenant.
            InvalidParameter: a value is invalid; the reason is missing or contains a key; or the change lowers
                automation for all tenants and is not confirmed: the message then states its effect.
        """
        self._scopes.check(wanted.reason)
        scope = self._scopes.resolve(given.strip(), force=wanted.force)
        effect = self.effect(scope, wanted.changes)
        if effect and not wanted.reason.strip():
            message = "give a reason: this lowers automation for all tenants"
            raise InvalidParameter(message, param="reason", cause="missing_reason")
        if effect and not wanted.confirm:
            raise InvalidParameter(effect, param="confirm", cause="unconfirmed")
        return scope

    def effect(self, scope: str, changes: Mapping[str, Any]) -> str:
        """Return the effect of a change that needs confirmation; empty if it needs none.

        Raises:
            InvalidParameter: a value is invalid.
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
        found = [f"default goes from {was} to {degree}. In the last hour that would have affected {uploads} uploads"]
        follows = "all wait for a reviewer" if degree.waits else "those with low confidence wait for a reviewer"
        found.append(f"({follows}) and {sum(served.values())} live sessions")
        found.append("(refused)." if degree in (Degree.HUMAN_ONLY, Degree.SHADOW) else "(their finals are drafts).")
        return " ".join([*found, "Confirm to continue."])
