"""Export to and import from Label Studio in its raw JSON, because the short formats keep only the first region's text.

https://labelstud.io/guide/task_format and https://labelstud.io/guide/export#Raw-JSON-format-of-completed-tasks. A
segment is a region: a `labels` result for its kind and a `textarea` result for its text share the region's `id`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from speechpipe.control.review.tasks import AnswerSegment, Kind, Task, read_answer
from speechpipe.errors import BadInput, InvalidParameter

FROM_LABELS, FROM_TEXT, TO = "kind", "transcription", "audio"

CONFIG = f"""<View>
  <Labels name="{FROM_LABELS}" toName="{TO}">
    <Label value="speech"/><Label value="no_speech"/><Label value="unintelligible"/>
  </Labels>
  <Audio name="{TO}" value="$audio"/>
  <TextArea name="{FROM_TEXT}" toName="{TO}" perRegion="true" editable="true" displayMode="region-list"/>
</View>
"""
"""The labelling interface for exported tasks."""


def exported(task: Task, audio_url: str) -> dict[str, Any]:
    """Return a task with the machine's segments as its prediction and the reviewer's, if any, as its annotation."""
    # The machine's segments are exported as they were recognized; a blind task has none.
    regions = [] if task.draft.blind else [
        region
        for piece in task.draft.pieces
        for region in _regions(piece.id, (piece.start_s, piece.end_s), piece.text, Kind.SPEECH, task.duration_s)
    ]  # fmt: skip
    known = [piece.confidence for piece in task.draft.pieces if piece.confidence is not None]
    document: dict[str, Any] = {
        "data": {
            "audio": audio_url,
            "speechpipe_id": task.id,
            "audio_sha256": task.audio_hash,
            "duration": task.duration_s,
            "bundle": task.bundle,
            "why": task.why,
        },
        "predictions": [],
        "annotations": [],
    }
    if regions:
        score = sum(known) / len(known) if known else 0.0
        document["predictions"] = [{"model_version": task.bundle, "score": round(score, 4), "result": regions}]
    if task.work:
        result = [
            region
            for number, said in enumerate(task.work)
            for region in _regions(
                _region_id(said, number), (said.start_s, said.end_s), said.text, said.kind, task.duration_s
            )
        ]
        document["annotations"] = [{"completed_by": {"email": task.reviewer}, "result": result}]
    return document


def _region_id(said: AnswerSegment, number: int) -> str:
    return said.of[0] if len(said.of) == 1 else f"r{number}"


def _regions(id_: str, span: tuple[float, float], text: str, kind: Kind, duration_s: float) -> Iterator[dict[str, Any]]:
    base = {"id": id_, "to_name": TO, "original_length": duration_s}
    value = {"start": round(span[0], 3), "end": round(span[1], 3), "channel": 0}
    yield {**base, "from_name": FROM_LABELS, "type": "labels", "value": {**value, "labels": [kind.value]}}
    if text:
        yield {**base, "from_name": FROM_TEXT, "type": "textarea", "value": {**value, "text": [text]}}


@dataclass(frozen=True)
class Imported:
    """An annotated task of an import."""

    id: str
    audio_hash: str
    by: str
    result: Sequence[Any] = field(default_factory=list)


def read(given: Any, most: int = 10_000) -> list[Imported]:
    """Return the annotated tasks of a Label Studio export; tasks without an annotation are left out.

    Of several annotations, the newest that was not cancelled counts.

    Raises:
        BadInput: it is not such an export.
    """
    if not isinstance(given, list) or len(given) > most:
        raise BadInput(f"expected a Label Studio export: a list of at most {most} tasks", cause="not_label_studio")
    found = []
    for number, item in enumerate(given, 1):
        data = item.get("data") if isinstance(item, dict) else None
        if not isinstance(data, dict) or not isinstance(data.get("speechpipe_id"), str):
            raise BadInput(
                f"task {number} has no data.speechpipe_id: it was not exported by speechpipe", cause="not_label_studio"
            )
        annotations = item.get("annotations", [])
        if not isinstance(annotations, list) or not all(isinstance(one, dict) for one in annotations):
            raise BadInput(f"task {number}: annotations must be a list", cause="not_label_studio")
        kept = [one for one in annotations if not one.get("was_cancelled")]
        if kept:
            newest = max(kept, key=lambda one: str(one.get("updated_at") or one.get("created_at") or ""))
            result = newest.get("result", [])
            by = newest.get("completed_by")
            name = str(by.get("email", "")) if isinstance(by, dict) else str(by or "")
            found.append(
                Imported(
                    data["speechpipe_id"],
                    str(data.get("audio_sha256", "")),
                    f"label-studio {name}".strip()[:128],
                    result if isinstance(result, list) else [],
                )
            )
    return found


def answer(task: Task, found: Imported) -> tuple[AnswerSegment, ...]:
    """Return the answer segments of an imported task, validated like those of the review page.

    A region with the id of a draft segment covers it. A draft segment without a region of its own is covered by the
    regions that overlap it; without any, it was deleted and counts as no speech.

    Raises:
        InvalidParameter: a region is invalid.
    """
    regions: dict[str, dict[str, Any]] = {}
    for item in found.result:
        if not isinstance(item, dict) or not isinstance(item.get("id"), str) or not isinstance(item.get("value"), dict):
            raise InvalidParameter("every result needs an id and a value", param="result")
        mine = regions.setdefault(item["id"], {"start": item["value"].get("start"), "end": item["value"].get("end")})
        if item.get("type") == "labels":
            labels = item["value"].get("labels") or ["speech"]
            mine["kind"] = labels[0] if isinstance(labels, list) else "speech"
        elif item.get("type") == "textarea":
            text = item["value"].get("text", "")
            mine["text"] = " ".join(map(str, text)) if isinstance(text, list) else text
    names = {piece.id for piece in task.draft.pieces}
    segments = [
        {**region, "kind": region.get("kind", "speech"), "of": [id_] if id_ in names else []}
        for id_, region in regions.items()
    ]
    _adopt(task, segments, names - set(regions))
    return read_answer(task, segments)


def _adopt(task: Task, segments: list[dict[str, Any]], missing: Iterable[str]) -> None:
    """Assign draft segments without a region to overlapping regions; add no-speech segments for deleted ones."""
    gone = set(missing)
    for piece in task.draft.pieces:
        if piece.id not in gone:
            continue
        over = [one for one in segments if _overlaps(one, piece.start_s, piece.end_s)]
        for one in over:
            one["of"].append(piece.id)
        if not over and piece.needs:
            segments.append(
                {"start": piece.start_s, "end": piece.end_s, "text": "", "kind": "no_speech", "of": [piece.id]}
            )


def _overlaps(segment: Mapping[str, Any], start_s: float, end_s: float) -> bool:
    start, end = segment.get("start"), segment.get("end")
    known = isinstance(start, int | float) and isinstance(end, int | float)
    return known and start < end_s and end > start_s  # type: ignore[operator]
