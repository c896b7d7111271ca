"""Out to Label Studio and back, by its own schema; training manifests."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from speechpipe.control.review import TaskState
from speechpipe.control.review.exchange import AudioOf, exported, imported
from speechpipe.control.review.label_studio import CONFIG
from speechpipe.control.review.operations import ReviewOperations
from speechpipe.control.review.task_repository import Reviewer
from speechpipe.errors import BadInput, InvalidParameter
from speechpipe.foundation.storage.store import Store
from tests.control.review.tasks import piece, said, task
from tests.databases import place_tables

URL = AudioOf("http://127.0.0.1:8000/v1/reviews/", "/audio")
ALL = Reviewer("ann")


@pytest.fixture
def operations(tmp_path: Path) -> Iterator[ReviewOperations]:
    store = Store(place_tables(tmp_path / "records.db"))
    yield ReviewOperations(store)
    store.close()


def out(operations: ReviewOperations, form: str = "label-studio") -> list[dict[str, Any]]:
    return json.loads(json.dumps(list(exported(operations, form, URL))))  # type: ignore[no-any-return]


def annotate(row: dict[str, Any], **texts: str) -> dict[str, Any]:
    """Do what Label Studio does when somebody corrects a prediction: the regions keep their ids."""
    result = json.loads(json.dumps(row["predictions"][0]["result"]))
    for region in result:
        if region["type"] == "textarea" and region["id"] in texts:
            region["value"]["text"] = [texts[region["id"]]]
    return {**row, "id": 7, "annotations": [{"id": 1, "completed_by": 3, "was_cancelled": False, "result": result}]}


def label_interface() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the library's own use of pydantic
        from label_studio_sdk.label_interface.interface import LabelInterface
    return LabelInterface(CONFIG)


def test_what_goes_out_is_valid_label_studio(operations: ReviewOperations) -> None:
    operations.add([task(1), task(2, blind=True), task(3, bundle="")], None)
    held = operations.queue.claim(ALL, lambda _: True)
    assert held is not None
    answer = [said(0, 0.5, "one", "p0"), said(0.5, 0.9, "too", "p0"), said(2, 2.9, "", "p2", kind="unintelligible")]
    operations.submit(held.id, ALL, held.lease, answer, 1.0)
    interface = label_interface()
    rows = out(operations)
    assert len(rows) == 3
    for row in rows:
        assert interface.validate_task({"data": row["data"]})
        for prediction in row["predictions"]:
            assert interface.validate_prediction(prediction)
            assert 0 <= prediction["score"] <= 1
        for annotation in row["annotations"]:
            assert interface.validate_annotation(annotation)
    answered = next(row for row in rows if row["annotations"])
    texts = [region["value"]["text"] for region in answered["annotations"][0]["result"] if region["type"] == "textarea"]
    assert texts == [["one"], ["too"]], "a text is a list"
    by_region: dict[str, set[str]] = {}
    for region in answered["predictions"][0]["result"]:
        by_region.setdefault(region["id"], set()).add(region["type"])
    assert by_region == {"p0": {"labels", "textarea"}, "p2": {"labels", "textarea"}}
    assert next(row for row in rows if row["data"]["speechpipe_id"] == "t2")["predictions"] == [], "blind"


def test_what_comes_back_is_the_answer(operations: ReviewOperations) -> None:
    operations.add([task(1), task(2)], None)
    first, second = out(operations)
    corrected = annotate(first, p0="one too")
    deleted = annotate(second)
    deleted["annotations"][0]["result"] = [item for item in deleted["annotations"][0]["result"] if item["id"] != "p2"]
    drawn = {"start": 5.0, "end": 6.0, "channel": 0}
    deleted["annotations"][0]["result"] += [
        {"id": "new", "type": "labels", "value": {**drawn, "labels": ["speech"]}},
        {"id": "new", "type": "textarea", "value": {**drawn, "text": ["added"]}},
    ]
    outcome = imported(operations, [corrected, deleted], ALL)
    assert (dict(outcome.counts), outcome.refused) == ({"imported": 2}, [])
    one, two = operations.queue.task("t1"), operations.queue.task("t2")
    assert [item.text for item in one.work] == ["one too", "three four"]
    assert (one.state, one.reviewer) == (TaskState.DONE, "label-studio 3")
    assert [(item.kind, item.text) for item in two.work] == [
        ("speech", "one two"),
        ("no_speech", ""),
        ("speech", "added"),
    ]
    assert sum(unit["edits"] for unit in one.compared["units"]) == 1


def test_what_cannot_be_taken_is_refused_one_by_one_with_its_cause(operations: ReviewOperations) -> None:
    operations.add([task(number) for number in range(1, 7)], None)
    rows = {row["data"]["speechpipe_id"]: row for row in out(operations)}
    unknown = annotate(json.loads(json.dumps(rows["t1"])))
    unknown["data"]["speechpipe_id"] = "nobody"
    altered = annotate(json.loads(json.dumps(rows["t2"])))
    altered["data"]["audio_sha256"] = "0" * 64
    marked = annotate(rows["t3"], p0="a\u0007b")
    cancelled = annotate(rows["t5"])
    cancelled["annotations"][0]["was_cancelled"] = True
    held = operations.queue.claim(ALL, lambda _: True)  # t1: somebody works on it
    assert held is not None
    given = [
        unknown,
        altered,
        marked,
        annotate(rows["t1"]),
        annotate(rows["t4"]),
        annotate(rows["t4"]),
        cancelled,
        rows["t6"],
    ]
    outcome = imported(operations, given, ALL)
    assert dict(outcome.counts) == {
        "unknown_id": 1,
        "audio_altered": 1,
        "control_character": 1,
        "review_leased": 1,
        "imported": 1,
        "repeated": 1,
    }
    assert [row["id"] for row in outcome.refused] == ["nobody", "t2", "t3", "t1", "t4"]
    assert operations.queue.task("t3").state is TaskState.OPEN, "nothing is lost"
    again = imported(operations, [annotate(rows["t4"])], ALL)
    assert dict(again.counts) == {"repeated": 1}
    other = imported(operations, [annotate(rows["t5"])], Reviewer("zoe", "zeta"))
    assert dict(other.counts) == {"unknown_id": 1}, "another tenant's is none"


@pytest.mark.parametrize("given", [{}, [1], [{"data": {}}], [{"data": {"speechpipe_id": "t1"}, "annotations": 3}]])
def test_what_is_no_export_is_refused_as_a_whole(operations: ReviewOperations, given: Any) -> None:
    with pytest.raises(BadInput) as refused:
        imported(operations, given, ALL)
    assert refused.value.cause == "not_label_studio"


def test_a_manifest_has_a_line_for_every_spoken_segment(operations: ReviewOperations) -> None:
    pieces = (piece(0, chance=0.25), piece(2, "three four", chance=0.25))
    operations.add([task(1, *pieces, whole=0.25, base=0.25)], None)
    held = operations.queue.claim(ALL, lambda _: True)
    assert held is not None
    answer = [
        said(0, 0.9, "one too", "p0"),
        said(2, 2.9, "", "p2", kind="unintelligible"),
        said(5, 6, "added"),
        said(7, 8, "", kind="no_speech"),
    ]
    operations.submit(held.id, ALL, held.lease, answer, 1.0)
    first, added = out(operations, "manifest")
    assert (first["offset"], first["duration"], first["text"], first["heard"]) == (0.0, 0.9, "one too", "one two")
    assert (first["weight"], first["audio_filepath"]) == (4.0, "http://127.0.0.1:8000/v1/reviews/t1/audio")
    assert (added["text"], added["heard"], added["weight"]) == ("added", None, 4.0)
    with pytest.raises(InvalidParameter, match="format must be one of"):
        out(operations, "csv")


def test_a_region_without_a_time_is_refused(operations: ReviewOperations) -> None:
    operations.add([task(1)], None)
    row = annotate(out(operations)[0])
    del row["annotations"][0]["result"][0]["value"]["start"]
    row["annotations"][0]["result"] = row["annotations"][0]["result"][:1]
    outcome = imported(operations, [row], ALL)
    assert outcome.counts["invalid_parameter"] == 1
