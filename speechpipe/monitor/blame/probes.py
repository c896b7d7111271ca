"""Probes as evidence: what the stages answered to pinned inputs since a change, or in the last two rounds.

A probe gives a stage the input that was pinned for it, so an answer that differs is the stage's own change. Answers
from before a change say nothing about it: they would acquit a stage that has just broken, and convict one that was
repaired.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from speechpipe.foundation.storage.record import Record
from speechpipe.monitor.spec import CascadeSpec

ROUNDS = 2
"""Without a change, so many of the last answers to each probe count."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """How many of `of` probes a stage answered differently from when they were pinned."""

    stage: str
    failed: int
    of: int

    def strength(self, needed: float) -> float:
        """Return the strength if `needed` is the share that blames the stage; 1 is enough to blame it.

        A single differing probe does not count.
        """
        if self.failed < 2:
            return 0.0
        return self.failed / self.of / needed


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """One stage's answer to one probe at a time (unix seconds)."""

    at: float
    probe: str
    stage: str
    differs: bool


@dataclass(frozen=True)
class ProbeHistory:
    """The answers to probes, oldest first."""

    answers: tuple[ProbeAnswer, ...] = ()

    def since(self, change: float | None) -> tuple[ProbeResult, ...]:
        """Return the results of each stage since a change (unix seconds); None: those of the last two rounds."""
        if change is not None:
            counted = [answer for answer in self.answers if answer.at >= change]
        else:
            counted, seen = [], dict[tuple[str, str], int]()
            for answer in reversed(self.answers):
                key = answer.probe, answer.stage
                seen[key] = seen.get(key, 0) + 1
                if seen[key] <= ROUNDS:
                    counted.append(answer)
        stages = dict.fromkeys(answer.stage for answer in self.answers)
        return tuple(
            ProbeResult(stage, sum(one.differs for one in mine), len(mine))
            for stage in stages
            if (mine := [answer for answer in counted if answer.stage == stage])
        )


def probe_history(spec: CascadeSpec, records: Sequence[Record]) -> ProbeHistory:
    """Return the answers that the probe records hold, for each stage that they cover.

    A probe record has a measure `STAGE.probe_differs` (0 or 1) for each stage that was given its pinned input.
    """
    found = []
    for record in records:
        if record.kind != "probe":
            continue
        for stage in spec.stages:
            differs = record.measures.get(f"{stage.name}.probe_differs")
            if isinstance(differs, int | float):
                found.append(ProbeAnswer(record.at, record.session_id, stage.name, differs > 0))
    return ProbeHistory(tuple(sorted(found, key=lambda answer: answer.at)))
