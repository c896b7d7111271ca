"""Injected faults, each at the place where it would occur: audio, VAD, recognizer, service, clients.

    audio.py         samples before the cascade                              level input
    detection.py     VAD parameters, scores and streams                      level vad
    recognition.py   recognizer parameters, features and texts               level asr
    operation.py     workers, router and store, by their effect on records   level infra
    behaviour.py     users, while all models work correctly                  level client

A fault is a row of `FAULTS` in `table.py`; each has a mild, a medium and a severe form.
"""

from dataclasses import dataclass
from enum import StrEnum

SEVERITIES = ("mild", "medium", "severe")


class Level(StrEnum):
    """The place of a fault, which is the correct verdict."""

    INPUT = "input"
    VAD = "vad"
    ASR = "asr"
    INFRA = "infra"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault. `values` are its parameter at each of `SEVERITIES`; `tuning`: whether thresholds may be tuned on it."""

    name: str
    level: Level
    what: str
    values: tuple[float, float, float]
    tuning: bool

    def value(self, severity: str) -> float:
        """Return the parameter for a severity.

        Raises:
            ValueError: there is no such severity.
        """
        return self.values[SEVERITIES.index(severity)]
