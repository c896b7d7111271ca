"""Tasks to review, made up."""

from typing import Any

from speechpipe.control.review import PRIORITY, ReviewReason
from speechpipe.control.review.tasks import Draft, DraftSegment, Task


def piece(number: int, text: str = "one two", **changes: Any) -> DraftSegment:
    words = [
        {"word": word, "start": number + index * 0.1, "end": number + index * 0.1 + 0.1, "confidence": 0.8}
        for index, word in enumerate(text.split())
    ]
    known = {"words": words, "confidence": 0.8, "chance": 1.0}
    return DraftSegment(f"p{number}", float(number), number + 0.9, text, **{**known, **changes})


def task(number: int = 0, *pieces: DraftSegment, **changes: Any) -> Task:
    whole, base, blind = (
        changes.pop(name, default) for name, default in (("whole", 1.0), ("base", 1.0), ("blind", False))
    )
    why = changes.pop("why", ReviewReason.DEGREE)
    found = {
        "job": "",
        "tenant": "acme",
        "channel": "upload",
        "bundle": "default@1.0.0",
        "degree": "assist",
        "priority": PRIORITY[why],
        "created_at": float(number),
        "duration_s": 10.0,
        "audio_hash": "beef",
    }
    drawn = Draft(tuple(pieces or (piece(0), piece(2, "three four"))), blind, whole, base)
    return Task(f"t{number}", why=why, draft=drawn, **{**found, **changes})


def said(start: float, end: float, text: str, *of: str, kind: str = "speech") -> dict[str, Any]:
    return {"start": start, "end": end, "text": text, "kind": kind, "of": list(of)}
