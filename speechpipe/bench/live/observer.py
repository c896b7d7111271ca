"""What the server itself says: alarms and verdicts, read from `/v1/health/report` (whose alarms are `/v1/alarms`)."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any

import httpx

from speechpipe.bench.live.score import AlarmSeen, VerdictSeen
from speechpipe.monitor.unwatched import METRIC

EVERY_S, SETTLE_S = 4.0, 5.0
"""The report has the last verdict of each group. Of two that are made within four seconds, the later is seen."""

MINUTES = 5
TIMEOUT_S = 60.0


class Observer:
    """Asks a server every two seconds, and keeps every alarm and verdict that it has seen. Used on one event loop."""

    def __init__(self, url: str, key: str = "") -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.alarms: dict[str, AlarmSeen] = {}
        self.verdicts: dict[tuple[str, float], VerdictSeen] = {}
        self.report: Mapping[str, Any] = {}
        self.unanswered = 0  # requests that failed

    async def watch(self) -> None:
        """Ask until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Ask once; a server that does not answer is asked again next time."""
        asked = {"minutes": MINUTES}
        try:
            async with httpx.AsyncClient(base_url=self._url, headers=self._headers, timeout=TIMEOUT_S) as client:
                report = (await client.get("/v1/health/report", params=asked)).raise_for_status().json()
        except httpx.HTTPError:
            self.unanswered += 1
            return
        self.report = report
        for alarm in report["alarms"]:
            if alarm["firing_at"] is not None:
                self._take(alarm)
        for document in report["blame"]:
            seen = _verdict(document)
            self.verdicts.setdefault((seen.group, seen.at), seen)

    def _take(self, alarm: Mapping[str, Any]) -> None:
        before = self.alarms.get(alarm["id"])
        self.alarms[alarm["id"]] = AlarmSeen(
            metric=alarm["metric"],
            stage=alarm["stage"],
            severity=alarm["severity"],
            group=alarm["group"],
            reason=before.reason if before is not None else alarm["reason"],
            firing_at=float(alarm["firing_at"]),
            resolved_at=alarm["resolved_at"],
            blame=alarm["blame"] or "",
            later=alarm["reason"],
            incident=alarm.get("incident") or "",
        )

    @property
    def firing(self) -> list[AlarmSeen]:
        """The alarms that fire now, but that a group has no reference, which healthy traffic does not end."""
        return [alarm for alarm in self.alarms.values() if alarm.resolved_at is None and alarm.metric != METRIC]

    @contextlib.asynccontextmanager
    async def watching(self) -> Any:
        """Ask in the background for the time of the block."""
        task = asyncio.create_task(self.watch())
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def settled(self) -> float:
        """Let the server tick twice, then ask once more; return the time (unix seconds)."""
        await asyncio.sleep(SETTLE_S)
        await self.look()
        return time.time()


def _verdict(document: Mapping[str, Any]) -> VerdictSeen:
    return VerdictSeen(
        at=float(document["at"]),
        group=document["group_label"],
        label=document["verdict"],
        also=tuple(document["also"]),
        perhaps=tuple(document.get("perhaps", ())),
        decided=bool(document["decided"]),
        reason=document["reason"],
        cases=int(document["cases"]),
        since=document["since"],
    )
