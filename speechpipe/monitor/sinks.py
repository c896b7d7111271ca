"""Alarm sinks: the log, and a webhook with the payload of Prometheus Alertmanager (version 4).

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from speechpipe.foundation.outgoing import Sender
from speechpipe.monitor.alarms import Alarm

log = logging.getLogger(__name__)

NEVER = "0001-01-01T00:00:00Z"


class Sink(Protocol):
    """Receives alarms that fired or were resolved. `telling.py` calls it, on one thread for each sink."""

    name: str  # identifies the sink's notices in the store

    def send(self, alarms: Sequence[Alarm]) -> None:
        """Deliver the alarms before returning. Any exception means that they were not delivered and are sent again."""
        ...


class LogSink:
    """Writes one log line for each alarm."""

    name = "log"

    def send(self, alarms: Sequence[Alarm]) -> None:
        """Log the alarms."""
        for alarm in alarms:
            condition = alarm.condition
            level = logging.WARNING if alarm.state == "firing" else logging.INFO
            log.log(
                level,
                "alarm %s (%s, %s): %s [%s]%s",
                alarm.state,
                condition.severity,
                condition.metric,
                condition.reason,
                condition.group,
                f" incident {alarm.incident}" if alarm.incident else "",
            )


class WebhookSink:
    """Sends one signed POST for the alarms of each call, which are of one incident (`telling.py`)."""

    name = "webhook"

    def __init__(self, url: str, sender: Sender | None = None, external_url: str = "") -> None:
        """Post to `url`; links in the payload begin with `external_url`, if given."""
        self._url = url
        self._sender = sender or Sender()
        self._external_url = external_url.rstrip("/")

    def send(self, alarms: Sequence[Alarm]) -> None:
        """Post the alarms.

        Raises:
            DeliveryFailed: the receiver did not accept them.
        """
        self._sender.post(self._url, json.dumps(payload(alarms, self._external_url)).encode())


def payload(alarms: Sequence[Alarm], external_url: str = "") -> dict[str, Any]:
    """Return the payload of Alertmanager's webhook, version 4."""
    rows = [_alert(alarm, external_url) for alarm in alarms]
    labels = [row["labels"] for row in rows]
    common = {name: value for name, value in labels[0].items() if all(other.get(name) == value for other in labels)}
    return {
        "version": "4",
        "groupKey": f"speechpipe:{common.get('incident') or common.get('stage', 'many')}",
        "truncatedAlerts": 0,
        "status": "firing" if any(alarm.state == "firing" for alarm in alarms) else "resolved",
        "receiver": "speechpipe",
        "groupLabels": {"incident": common["incident"]} if "incident" in common else {},
        "commonLabels": common,
        "commonAnnotations": {},
        "externalURL": external_url,
        "alerts": rows,
    }


def _alert(alarm: Alarm, external_url: str) -> dict[str, Any]:
    condition = alarm.condition
    name = "".join(part.capitalize() for part in condition.metric.replace(".", "_").split("_"))
    return {
        "status": "resolved" if alarm.state == "resolved" else "firing",
        "labels": {
            "alertname": f"{name}{condition.rule.capitalize()}",
            "metric": condition.metric,
            "stage": condition.stage,
            "severity": condition.severity,
            "group": condition.group,
            **({"incident": alarm.incident} if alarm.incident else {}),
        },
        "annotations": {
            "summary": condition.reason,
            "runbook": runbook(condition.metric, external_url),
            **({"blame": alarm.blame} if alarm.blame else {}),
        },
        "startsAt": _time(alarm.firing_at or alarm.pending_at),
        "endsAt": _time(alarm.resolved_at) if alarm.resolved_at is not None else NEVER,
        "generatorURL": f"{external_url}/health" if external_url else "",
        "fingerprint": alarm.id,
    }


def runbook(metric: str, external_url: str = "") -> str:
    """Return the link to a metric's section of the runbook: on the server if its URL is known, else in the sources."""
    anchor = metric.replace(".", "")
    return f"{external_url}/runbook#{anchor}" if external_url else f"docs/runbook.md#{anchor}"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
