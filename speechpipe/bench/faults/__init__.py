"""Faults, each put where it would really happen: into the audio, the VAD, the recognizer, the service, its clients.

    audio.py         samples before the cascade                       level input
    detection.py     VAD parameters, scores and streams               level vad
    recognition.py   recognizer parameters, features and texts        level asr
    operation.py     workers, router and store, as records show them  level infra
    behaviour.py     people, while every model is well                level client

A fault is a row of `FAULTS` in `table.py`; each has a mild, a medium and a severe form.
"""

from dataclasses import dataclass
from enum import StrEnum

SEVERITIES = ("mild", "medium", "severe")


class Level(StrEnum):
    """Where a fault is: what a correct verdict says."""

    INPUT = "input"
    VAD = "vad"
    ASR = "asr"
    INFRA = "infra"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Fault:
    """One row. `values` are its parameter at each of `SEVERITIES`; `tuning`: thresholds may be tuned on it."""

    name: str
    level: Level
    what: str
    values: tuple[float, float, float]
    tuning: bool

    def value(self, severity: str) -> float:
        """Return the parameter of a severity.

        Raises:
            ValueError: no such severity.
        """
        return self.values[SEVERITIES.index(severity)]
