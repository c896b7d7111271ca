"""The sink that lowers the degree of automation by one when an alarm fires, where the policy asks for it."""

import logging
from collections.abc import Callable, Sequence

from speechpipe.control.review.policy_repository import Automation
from speechpipe.monitor.alarms import Alarm

STAGES = frozenset({"vad", "asr", "people"})
"""Stages whose degradation makes texts worse. A slow server does not. Input alarms describe what clients send; where
that makes texts worse, alarms of the recognizer fire too."""

CANDIDATES = frozenset({"canary", "shadow"})

log = logging.getLogger(__name__)


class DemotionSink:
    """A `Sink`. Alarms of an enterprise affect that tenant; those of consumers all other tenants, or one of them.

    `source` returns the tenant without which an alarm would not hold, or an empty string (`monitor/attribution.py`).
    """

    name = "demotion"

    def __init__(
        self, automation: Automation, enterprises: Sequence[str], source: Callable[[Alarm], str] = lambda _: ""
    ) -> None:
        self._automation = automation
        self._enterprises = frozenset(enterprises)
        self._source = source

    def send(self, alarms: Sequence[Alarm]) -> None:
        """Demote the scopes that the alarms affect. Alarms of a candidate alone are left to the rollout.

        Raises:
            Conflict, SQLAlchemyError, OSError: a scope could not be demoted. Those that were are not again for an hour.
        """
        for alarm in alarms:
            condition = alarm.condition
            if alarm.state != "firing" or condition.severity != "page" or condition.stage not in STAGES:
                continue
            parts = condition.group.split()
            if CANDIDATES.isdisjoint(parts):
                self._demote(parts, alarm)

    def _demote(self, group: Sequence[str], alarm: Alarm) -> None:
        reason = f"{alarm.condition.metric}: {alarm.condition.reason}"
        scopes = set(self._enterprises.intersection(group))
        if not scopes and (one := self._source(alarm)):
            scopes, reason = {one}, f"{reason} (only this tenant's sessions cause it)"
        for scope in scopes or (set(self._automation.policies()) - self._enterprises):
            if (new := self._automation.demote(scope, "speechpipe", reason)) is not None:
                log.warning("%s is demoted to %s: %s", scope, new.policy.degree, reason)
