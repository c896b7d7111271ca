"""An alarm takes the machine down by one degree of automation, where a policy wants that."""

import logging
from collections.abc import Sequence

from speechpipe.monitor.alarms import Alarm
from speechpipe.review.automation import Automation

STAGES = frozenset({"input", "vad", "asr", "people"})
"""Those whose degradation makes texts worse; a server that is slow does not."""

CANDIDATES = frozenset({"canary", "shadow"})

log = logging.getLogger(__name__)


class DemotionSink:
    """A `Sink`. Alarms of an enterprise concern that tenant, those of consumers everybody else."""

    name = "demotion"

    def __init__(self, automation: Automation, enterprises: Sequence[str]) -> None:
        self._automation = automation
        self._enterprises = frozenset(enterprises)

    def send(self, alarms: Sequence[Alarm]) -> None:
        """Demote; what is wrong with a candidate alone is for the rollout to end.

        Raises:
            InUse, SQLAlchemyError, OSError: somebody could not be demoted. Those that were are not again, for an hour.
        """
        for alarm in alarms:
            condition = alarm.condition
            if alarm.state != "firing" or condition.severity != "page" or condition.stage not in STAGES:
                continue
            parts = condition.group.split()
            if CANDIDATES.isdisjoint(parts):
                self._demote(parts, f"{condition.metric}: {condition.reason}")

    def _demote(self, group: Sequence[str], reason: str) -> None:
        mine = self._enterprises.intersection(group)
        for scope in mine or (set(self._automation.policies()) - self._enterprises):
            if (new := self._automation.demote(scope, "speechpipe", reason)) is not None:
                log.warning("%s is demoted to %s: %s", scope, new.policy.degree, reason)
