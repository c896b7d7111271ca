"""Training manifests in the format of NeMo and others: one JSON object a line with `audio_filepath`, `offset`,
`duration` and `text`, and further keys for weighting.
"""

from collections.abc import Iterator
from typing import Any

from speechpipe.control.review.tasks import Kind, Task


def lines(task: Task, audio: str) -> Iterator[dict[str, Any]]:
    """Yield the speech segments of an answered task; `audio` is the path or URL of its file.

    Unintelligible segments are left out, because they have no text. `heard` is the machine's text if the segment covers
    one of the machine's; `weight` is the inverse of its sampling chance.
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
