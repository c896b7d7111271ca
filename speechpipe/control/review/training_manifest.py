"""Training manifests: one JSON object a line, as NeMo and others read them (`audio_filepath`, `offset`, `duration`,
`text`), with what a trainer may want to weigh by.
"""

from collections.abc import Iterator
from typing import Any

from speechpipe.control.review.tasks import Kind, Task


def lines(task: Task, audio: str) -> Iterator[dict[str, Any]]:
    """Yield the spoken segments of an answered task; `audio` is where its file is.

    Unintelligible segments are left out: they have no text to learn. `heard` is the machine's text where the segment
    is one of the machine's, `weight` one over the chance with which it came to be reviewed.
    """
    pieces = {piece.id: piece for piece in task.draft.pieces}
    for said in task.work:
        if said.kind is not Kind.SPEECH:
            continue
        mine = [pieces[name] for name in said.of]
        chances = [piece.chance for piece in mine] if mine else [task.draft.whole]
        known = [chance for chance in chances if chance]
        yield {
            "audio_filepath": audio,
            "offset": round(said.start_s, 3),
            "duration": round(said.end_s - said.start_s, 3),
            "text": said.text,
            "id": task.id,
            "bundle": task.bundle,
            "heard": mine[0].text if len(mine) == 1 and mine[0].text else None,
            "confidence": mine[0].confidence if len(mine) == 1 else None,
            "weight": round(1 / min(known), 4) if known else None,
            "reviewer": task.reviewer,
            "audio_sha256": task.audio_hash,
        }
