"""What a training learns from: reviews with their audio, copied; of the whole session where spans are wanted."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import shipped_models
from speechpipe.control.review.tasks import AnswerSegment, Task
from speechpipe.control.review.tasks import Kind as SegmentKind
from speechpipe.control.training import Kind, Request
from speechpipe.control.training.dataset import prepare
from speechpipe.control.training.job_spec import read_order
from speechpipe.control.training.spans import read_marked
from speechpipe.errors import BadInput
from tests.control.review.tasks import piece, task
from tests.sounds import sample

BUNDLE = Catalogue([shipped_models()]).bundle("digits")
WORK = (AnswerSegment(0.5, 1.5, "one two", of=("p0",)), AnswerSegment(2.0, 2.5, "", SegmentKind.NO_SPEECH, ("p2",)))


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    folder = tmp_path / "reviews"
    folder.mkdir()
    for number in range(4):
        soundfile.write(folder / f"t{number}.flac", sample("digits"), 16_000)
    return folder


def answered(number: int, *pieces: object, **changes: object) -> Task:
    return replace(task(number, *pieces), work=WORK, **changes)  # type: ignore[arg-type]


def prepared(kind: Kind, tasks: list[Task], audio: Path, folder: Path, **asked: str) -> list[dict[str, object]]:
    prepare(Request(kind, "digits@1.0.0", **asked), BUNDLE, tasks, audio, folder)  # type: ignore[arg-type]
    (name,) = read_order(folder).manifests
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_spoken_segments_are_learnt_from_copies_that_outlive_the_reviews(audio: Path, tmp_path: Path) -> None:
    gone = answered(9)
    rows = prepared(Kind.CTC, [answered(0), answered(1, tenant="other"), gone], audio, tmp_path / "job", tenant="acme")
    assert [(row["text"], row["offset"], row["duration"]) for row in rows] == [("one two", 0.5, 1.0)]
    (audio / "t0.flac").unlink()
    assert Path(str(rows[0]["audio_filepath"])).is_file()


def test_a_training_that_goes_on_learns_from_the_same(audio: Path, tmp_path: Path) -> None:
    first = prepared(Kind.CTC, [answered(0)], audio, tmp_path / "job")
    assert prepared(Kind.CTC, [answered(0), answered(1)], audio, tmp_path / "job") == first


def test_spans_are_taken_of_sessions_that_a_person_heard_whole(audio: Path, tmp_path: Path) -> None:
    parts = answered(1, piece(0), replace(piece(2), needs=False, accepted=True))
    prepared(Kind.VAD, [answered(0), parts], audio, tmp_path / "job")
    (found,) = read_marked([tmp_path / "job" / "reviews.jsonl"])
    assert found.spans == [(0.5, 1.5)], "where somebody said that nobody speaks is silence"


def test_without_reviews_there_is_nothing_to_learn_from(audio: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        prepared(Kind.VAD, [answered(9)], audio, tmp_path / "job")
    assert caught.value.cause == "too_few_reviews"
