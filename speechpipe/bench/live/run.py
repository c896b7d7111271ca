"""The sequence of the live benchmark: a reference, healthy traffic, then one fault after another with rest between."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from speechpipe.bench.faults.behaviour import Habits
from speechpipe.bench.live import table
from speechpipe.bench.live.observer import Observer
from speechpipe.bench.live.outside import applied, hog
from speechpipe.bench.live.score import Felt, Outcome, Stretch, felt, judged
from speechpipe.bench.live.server import LiveServer
from speechpipe.bench.live.table import LiveFault
from speechpipe.bench.live.traffic import Load, Said, Traffic
from speechpipe.bench.live.voices import Manner, Voices
from speechpipe.cascade.evaluation.manifest import Clip
from speechpipe.monitor.reference import Reference
from speechpipe.monitor.report import Filters
from speechpipe.monitor.spec import Severity
from speechpipe.serving.health.operations import HealthOperations

REFERENCE_LIMIT = 5_000
"""Utterances after which a reference that the server has not proposed is given up."""

LEAST_UNITS = 120
"""Groups with fewer utterances get no reference: blame needs a hundred cases."""

ALL_PROPOSED_S = 45.0
"""After the first proposal, other groups get so long for theirs; the server proposes every half minute."""

LOOK_S = 1.0
OPERATOR = "the live benchmark"


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        faults: the rows to run, in order.
        table: all rows, in which the second faults are found.
        utterances: recordings spoken during each fault.
        between: healthy ones before each fault, at least.
        rest_s: healthy traffic goes on until no alarm fires, at most for so long.
        healthy_s: healthy traffic after the reference was approved.
        reference: utterances after which a reference is proposed by hand; 0: the server proposes it.
        seeds: how often the faults run, each time in another order.
        hog: busy processes beside the server, all the time.
        pause: while this file exists, nothing new begins, and the server's processes are stopped; None: never.
    """

    faults: Sequence[LiveFault]
    table: Sequence[LiveFault]
    utterances: int = 100
    between: int = 60
    rest_s: float = 180.0
    healthy_s: float = 60.0
    reference: int = 0
    seeds: int = 1
    hog: int = 0
    pause: Path | None = None


@dataclass
class Findings:
    """The outcomes in order, and the healthy stretches between."""

    outcomes: list[Outcome] = field(default_factory=list)
    healthy: list[Stretch] = field(default_factory=list)


class Benchmark:
    """One run on one server. Used on one event loop."""

    def __init__(
        self,
        plan: Plan,
        url: str,
        clips: Sequence[Clip],
        load: Load,
        server: LiveServer | None,
        operator: str = "",
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Measure the server at `url`.

        Args:
            plan: what is measured.
            url: the server's address.
            clips: the recordings that are spoken.
            load: the pace of the traffic.
            server: the server's processes; None: it was started by others, and only faults from outside are run.
            operator: a key that may read alarms and reports; empty: none is needed.
            say: told what is going on, a line at a time.
        """
        self._plan = plan
        self._server = server
        self._random = np.random.default_rng(0)
        self._traffic = Traffic(url, Voices(clips, self._random), load, self._random)
        self.observer = Observer(url, operator)
        self._say = say
        self._manner = Manner()
        self.findings = Findings()

    async def run(self) -> Findings:
        """Run the whole sequence.

        Raises:
            RuntimeError: no reference was proposed, or the server did not start again.
        """
        plan = self._plan
        async with hog(plan.hog), self.observer.watching():
            await self._paused()
            await self._reference()
            await self._healthy(plan.between, plan.healthy_s)
            for seed in range(plan.seeds):
                for fault in self._order(seed):
                    await self._paused()
                    before = await self._rested()
                    await self._paused()
                    await self._fault(fault, seed, before)
        return self.findings

    def _order(self, seed: int) -> list[LiveFault]:
        faults = list(self._plan.faults)
        if seed:
            np.random.default_rng(seed).shuffle(faults)
        return faults

    # ---- stretches ----

    async def _reference(self) -> None:
        """Speak until references are there, and approve them. A server of others must have some already."""
        if self._server is None:
            await self.observer.look()
            pinned = self.observer.report.get("references", {}).get("pinned", [])
            if not pinned:
                raise RuntimeError("the server has no approved reference: `speechpipe reference show` on its store")
            return
        begun, waits = time.time(), _Waits()
        said = await self._traffic.run(lambda: self._manner, lambda so_far: self._proposed(so_far, waits), self._paused)
        pinned = await asyncio.to_thread(self._approve, self._server.health(), begun)
        if not pinned:
            raise RuntimeError(f"no reference was proposed after {felt(said).utterances} utterances")
        for one in pinned:
            self._say(f"reference {one.id} of {one.group.label}: {one.units} utterances")
        self._tell("reference", felt(said))
        if pages := sorted({one.metric for one in self.observer.firing if one.severity == Severity.PAGE.value}):
            self._say(f"not healthy, though nothing was injected: {', '.join(pages)}")

    def _approve(self, health: HealthOperations, begun: float) -> list[Reference]:
        """Approve the server's proposals; propose and approve those of groups that have enough cases for blame.

        Otherwise a group with a smaller part of the traffic would have none, and nothing would be said of it.
        """
        proposals = {one.group: one for one in health.references() if one.status == "proposed"}
        for progress in health.progress():
            group = progress.group
            if progress.units >= LEAST_UNITS and group not in proposals:
                filters = Filters(group.tenant_class, group.channel, group.bundle, group.arm)
                proposals |= {one.group: one for one in health.propose(begun, time.time(), filters) if any(one.group)}
        return [health.approve(one.id, OPERATOR) for one in proposals.values()]

    def _proposed(self, said: Sequence[Said], waits: "_Waits") -> bool:
        spoken = sum(one.recordings for one in said)
        if self._plan.reference:
            return spoken >= self._plan.reference
        references = self.observer.report.get("references", {})
        proposed = [one for one in references.get("proposed", []) if any(one["group"].values())]
        waiting = [one for one in references.get("progress", []) if one["utterances"] >= one["needed"]]
        return waits.over(bool(proposed), bool(waiting)) or spoken >= REFERENCE_LIMIT

    async def _healthy(self, utterances: int, seconds: float = 0.0, rest_s: float = 0.0) -> Felt:
        began = time.time()

        def enough(said: Sequence[Said]) -> bool:
            spoken, took = sum(one.recordings for one in said), time.time() - began
            if spoken < utterances or took < seconds:
                return False
            return took >= rest_s or not self.observer.firing

        said = await self._traffic.run(lambda: self._manner, enough, self._paused)
        ended = await self.observer.settled()
        self.findings.healthy.append(Stretch(began, ended, said))
        found = felt(said)
        self._tell("healthy", found)
        return found

    async def _rested(self) -> Felt:
        return await self._healthy(self._plan.between, rest_s=self._plan.rest_s)

    async def _fault(self, fault: LiveFault, seed: int, before: Felt) -> None:
        second = next((one for one in self._plan.table if one.name == fault.also), None)
        active = [one for one in (fault, second) if one is not None]
        began = time.time()
        async with self._active(active):
            said = await self._traffic.run(lambda: self._manner, self._spoken_enough)
            ended = await self.observer.settled()
        stretch = Stretch(began, ended, said, fault, second, seed)
        outcome = judged(stretch, before, self.observer.alarms.values(), self.observer.verdicts.values())
        self.findings.outcomes.append(outcome)
        self._tell(fault.name, outcome.felt)
        verdict = outcome.verdict
        told = "no verdict" if verdict is None else f"{verdict.label}: {verdict.reason}"
        self._say(f"    truth {fault.truth}; alarms {', '.join(outcome.alarms) or '-'}; {told}")

    def _spoken_enough(self, said: Sequence[Said]) -> bool:
        return sum(one.recordings for one in said) >= self._plan.utterances

    # ---- faults ----

    @contextlib.asynccontextmanager
    async def _active(self, faults: Sequence[LiveFault]) -> AsyncIterator[None]:
        """Make the faults active for the time of the block."""
        self._manner = manner_of(faults)
        try:
            async with contextlib.AsyncExitStack() as held:
                if self._server is not None:
                    inside: Mapping[str, Sequence[float]] = {one.kind: one.values for one in faults}
                    self._server.inject(inside)
                    held.callback(self._server.inject, {})
                    for fault in faults:
                        await held.enter_async_context(applied(fault, self._server, self._random))
                        if fault.kind == table.RESTART:
                            await asyncio.to_thread(self._server.stop)
                            await asyncio.to_thread(self._server.start)
                yield
        finally:
            self._manner = Manner()

    async def _paused(self) -> None:
        """Wait while the pause file exists, once the sessions in progress are over."""
        pause = self._plan.pause
        if pause is None or not pause.exists():
            return
        self._say(f"waits while {pause} exists")
        await self._traffic.drain()
        if self._server is not None:
            self._server.freeze()
        while pause.exists():
            await asyncio.sleep(LOOK_S)
        if self._server is not None:
            self._server.thaw()

    def _tell(self, name: str, found: Felt) -> None:
        wrong = "-" if found.wrong is None else f"{found.wrong:.3f}"
        waits = "-" if found.wait_p95_s is None else f"{found.wait_p95_s:.2f}"
        self._say(f"{name}: {found.utterances} utterances, words wrong {wrong}, p95 of waiting {waits} s")


class _Waits:
    """Whether the references that the server proposes by itself are there."""

    def __init__(self) -> None:
        self._first = 0.0

    def over(self, proposed: bool, others_waiting: bool) -> bool:
        """Whether to wait no longer, given that there is a proposal, and groups that are about to get theirs."""
        if not proposed:
            return False
        self._first = self._first or time.monotonic()
        return not others_waiting or time.monotonic() - self._first >= ALL_PROPOSED_S


def manner_of(faults: Sequence[LiveFault]) -> Manner:
    """Return the traffic under these faults."""
    manner = Manner(audio=tuple(fault for fault in faults if fault.where == "audio"))
    for fault in faults:
        match fault.kind:
            case table.LONGER:
                manner = replace(manner, longer=fault.value)
            case table.OTHERS:
                manner = replace(manner, others=True)
            case table.MORE:
                manner = replace(manner, faster=fault.value)
            case _:
                manner = replace(manner, habits=habits_of(fault, manner.habits))
    return manner


def habits_of(fault: LiveFault, habits: Habits) -> Habits:
    """Return the habits of people under a fault of their client."""
    match fault.kind:
        case table.REDO:
            return replace(habits, redo=habits.redo + fault.value)
        case table.TYPING:
            return replace(habits, typing=habits.typing + fault.value)
        case table.ABANDON:
            return replace(habits, abandon=habits.abandon + fault.value)
    return habits
