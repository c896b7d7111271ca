"""An alarm takes the machine down by one degree of automation, where a policy wants that."""

import logging
from collections.abc import Callable, Sequence

from speechpipe.control.review.policy_repository import Automation
from speechpipe.monitor.alarms import Alarm

STAGES = frozenset({"vad", "asr", "people"})
"""Those whose degradation makes texts worse. A server that is slow does not. An alarm of the input tells what clients
send: where that makes texts worse, the recognizer's alarms tell so, too."""

CANDIDATES = frozenset({"canary", "shadow"})

log = logging.getLogger(__name__)


class DemotionSink:
    """A `Sink`. Alarms of an enterprise concern that tenant; those of consumers everybody else, or one of them.

    `source` returns the tenant without whom an alarm would not stand, or nothing (`monitor/attribution.py`).
    """

    name = "demotion"

    def __init__(
        self, automation: Automation, enterprises: Sequence[str], source: Callable[[Alarm], str] = lambda _: ""
    ) -> None:
        self._automation = automation
        self._enterprises = frozenset(enterprises)
        self._source = source

    def send(self, alarms: Sequence[Alarm]) -> None:
        """Demote; what is wrong with a candidate alone is for the rollout to end.

        Raises:
            Conflict, SQLAlchemyError, OSError: a tenant could not be demoted. Those that were are left for an hour.
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
            scopes, reason = {one}, f"{reason} (without this tenant it would not)"
        for scope in scopes or (set(self._automation.policies()) - self._enterprises):
            if (new := self._automation.demote(scope, "speechpipe", reason)) is not None:
                log.warning("%s is demoted to %s: %s", scope, new.policy.degree, reason)
