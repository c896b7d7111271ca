"""Where alarms go: the log, and a webhook in the shape of Prometheus Alertmanager's.

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config (version 4). Whoever takes Alertmanager's
messages takes ours.
"""

import json
import logging
import queue
import threading
import urllib.request
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from speechpipe.monitor.alarms import Alarm

log = logging.getLogger(__name__)

NEVER = "0001-01-01T00:00:00Z"
TIMEOUT_S = 10.0
TRIES = 3
PAUSE_S = 2.0
WAITING = 100


class Sink(Protocol):
    """Takes alarms that began to fire or were resolved; never blocks, never raises."""

    def send(self, alarms: Sequence[Alarm]) -> None:
        """Tell of them."""
        ...

    def close(self) -> None:
        """Tell what is waiting, for a short while, and stop."""
        ...


class LogSink:
    """A line each."""

    def send(self, alarms: Sequence[Alarm]) -> None:
        """Write them."""
        for alarm in alarms:
            condition = alarm.condition
            level = logging.WARNING if alarm.state == "firing" else logging.INFO
            log.log(
                level,
                "alarm %s (%s, %s): %s [%s]",
                alarm.state,
                condition.severity,
                condition.metric,
                condition.reason,
                condition.group,
            )

    def close(self) -> None:
        """Do nothing."""


class WebhookSink:
    """A thread of its own posts; what cannot be told after some tries is counted in `lost`."""

    def __init__(self, url: str, external_url: str = "", timeout_s: float = TIMEOUT_S) -> None:
        self._url = url
        self._external_url = external_url
        self._timeout_s = timeout_s
        self._queue: queue.Queue[Sequence[Alarm] | None] = queue.Queue(WAITING)
        self._closing = threading.Event()
        self.lost: Counter[str] = Counter()
        self.sent = 0
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def send(self, alarms: Sequence[Alarm]) -> None:
        """Queue them."""
        try:
            self._queue.put_nowait(alarms)
        except queue.Full:
            self.lost["queue_full"] += len(alarms)

    def close(self) -> None:
        """Stop; a request that hangs is left behind."""
        self._closing.set()
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            log.warning("%d webhook messages are not sent", self._queue.qsize())
        self._thread.join(self._timeout_s)

    def _run(self) -> None:
        while (alarms := self._queue.get()) is not None:
            self._post(alarms)

    def _post(self, alarms: Sequence[Alarm]) -> None:
        body = json.dumps(payload(alarms, self._external_url)).encode()
        for attempt in range(TRIES):
            if attempt and self._closing.wait(PAUSE_S * 2**attempt):
                break
            request = urllib.request.Request(  # noqa: S310 - checked in the settings
                self._url, body, {"Content-Type": "application/json", "User-Agent": "speechpipe"}
            )
            try:
                with urllib.request.urlopen(request, timeout=self._timeout_s):  # noqa: S310
                    self.sent += len(alarms)
                    return
            except (OSError, ValueError) as error:
                log.warning("the alarm webhook failed (try %d of %d): %s", attempt + 1, TRIES, error)
        self.lost["failed"] += len(alarms)


def payload(alarms: Sequence[Alarm], external_url: str = "") -> dict[str, Any]:
    """Return a message of Alertmanager's webhook, version 4."""
    rows = [_alert(alarm, external_url) for alarm in alarms]
    labels = [row["labels"] for row in rows]
    common = {name: value for name, value in labels[0].items() if all(other.get(name) == value for other in labels)}
    return {
        "version": "4",
        "groupKey": f"speechpipe:{common.get('stage', 'many')}",
        "truncatedAlerts": 0,
        "status": "firing" if any(alarm.state == "firing" for alarm in alarms) else "resolved",
        "receiver": "speechpipe",
        "groupLabels": {},
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
        },
        "annotations": {
            "summary": condition.reason,
            "runbook": f"docs/runbook.md#{condition.metric.replace('.', '')}",
            **({"blame": alarm.blame} if alarm.blame else {}),
        },
        "startsAt": _time(alarm.firing_at or alarm.pending_at),
        "endsAt": _time(alarm.resolved_at) if alarm.resolved_at is not None else NEVER,
        "generatorURL": f"{external_url}/health" if external_url else "",
        "fingerprint": alarm.id,
    }


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
