"""What people may say, what is refused, and what comes of it in the comparison."""

from typing import Any

import pytest

from speechpipe.cascade.evaluation.scores import align
from speechpipe.control.review.agreement import compare, evenly
from speechpipe.control.review.comparison import people
from speechpipe.control.review.tasks import Kind, Task, read_answer
from speechpipe.errors import InvalidParameter
from tests.control.review.tasks import piece, said, task

BOTH = [said(0, 0.9, "one two", "p0"), said(2, 2.9, "three four", "p2")]


@pytest.mark.parametrize(
    ("segments", "told"),
    [
        ("no list", "must be a list"),
        ([*BOTH, {"start": 1}], "segment 3"),
        ([*BOTH, {**said(4, 5, "x"), "colour": "red"}], "nothing else"),
        ([*BOTH, said(5, 4, "x")], "5 to 4 s"),
        ([*BOTH, said(9, 30, "x")], "not within"),
        ([*BOTH, said(float("nan"), 5, "x")], "number of seconds"),
        ([*BOTH, {**said(4, 5, "x"), "start": True}], "number of seconds"),
        ([*BOTH, said(4, 5, "x", "p9")], "there is no 'p9'"),
        ([*BOTH, said(4, 5, "x", kind="song")], "kind must be one of"),
        ([*BOTH, said(4, 5, "")], "speech has a text"),
        ([*BOTH, said(4, 5, "x", kind="no_speech")], "speech has a text"),
        ([*BOTH, said(4, 5, "a\x00b")], r"control character \(U\+0000\)"),
        ([*BOTH, said(4, 5, "a\u202eb")], r"U\+202E"),
        ([*BOTH, said(4, 5, "x" * 20_001)], "at most 20000"),
        ([*BOTH, {**said(4, 5, "x"), "text": 7}], "at most 20000"),
        ([BOTH[0]], "1 segments are not answered, the first at 2.0 s"),
        ([], "2 segments are not answered"),
    ],
)
def test_an_answer_that_means_nothing_is_refused_and_says_where(segments: Any, told: str) -> None:
    with pytest.raises(InvalidParameter, match=told):
        read_answer(task(), segments)


def test_a_text_is_kept_as_it_is_but_for_its_spaces() -> None:
    given = said(0, 0.9, " <script>\talert('ü')\n</script>  ", "p0")
    first, _ = read_answer(task(), [BOTH[1], given])
    assert first.text == "<script> alert('ü') </script>"
    assert (first.start_s, first.kind) == (0.0, Kind.SPEECH)


def test_work_in_progress_need_not_be_whole() -> None:
    assert read_answer(task(), [said(0, 0.9, "", "p0")], whole=False)[0].text == ""


def units(found: Task, *segments: dict[str, Any]) -> dict[str, Any]:
    return compare(found, read_answer(found, list(segments)), align)


def test_splitting_and_merging_is_no_error() -> None:
    split = units(task(), said(0, 0.4, "one", "p0"), said(0.4, 0.9, "two", "p0"), BOTH[1])
    merged = units(task(), said(0, 2.9, "one two three four", "p0", "p2"))
    for found, count in ((split, 2), (merged, 1)):
        assert len(found["units"]) == count
        assert sum(unit["edits"] for unit in found["units"]) == 0
        assert sum(unit["words"] for unit in found["units"]) == 4
        assert found["pairs"] == []


def test_every_kind_of_difference_is_counted_and_named() -> None:
    found = units(
        task(),
        said(0, 0.9, "one too many", "p0"),
        said(2, 2.9, "", "p2", kind="no_speech"),
        said(5, 6, "missed", kind="speech"),
    )
    edited, deleted, added = found["units"]
    assert (edited["substitutions"], edited["deletions"], edited["words"]) == (1, 1, 3)
    assert (deleted["insertions"], deleted["words"]) == (2, 0)
    assert (added["deletions"], added["confidence"]) == (1, None)
    assert ["too", "two", 1] in found["pairs"]
    assert ["missed", "", 1] in found["pairs"]
    assert ["", "four", 1] in found["pairs"]


def test_what_nobody_understands_is_no_error_and_is_counted() -> None:
    found = units(task(), said(0, 0.9, "", "p0", kind="unintelligible"), BOTH[1])
    assert (len(found["units"]), found["unintelligible"]) == (1, 1)


def test_what_a_person_was_not_asked_is_no_fair_sample() -> None:
    accepted = task(0, piece(0, needs=False, accepted=True, chance=None), piece(2, "three four"), whole=None)
    found = units(accepted, said(0, 0.9, "mended", "p0"), BOTH[1], said(5, 6, "missed"))
    assert (len(found["units"]), found["left_out"]) == (1, 2)
    assert len(units(accepted, BOTH[1])["units"]) == 1, "and need not be answered"


def test_thinning_brings_all_to_the_same_chance() -> None:
    kept = [evenly({"id": f"u{number}", "chance": 0.5}, 0.05) for number in range(5000)]
    assert sum(kept) / 5000 == pytest.approx(0.1, abs=0.015)
    assert evenly({"id": "x", "chance": 0.05}, 0.05)
    assert kept == [evenly({"id": f"u{number}", "chance": 0.5}, 0.05) for number in range(5000)]


def test_the_comparison_is_by_bundle_and_by_day() -> None:
    done = []
    for number in range(60):
        found = task(
            number, piece(0, "one two", confidence=0.9 if number % 2 else 0.3),
            bundle="good@1" if number < 50 else "bad@1", finished_at=number * 3600.0, work_s=20.0, reviewer="ann",
            blind=number % 10 == 0,
        )  # fmt: skip
        text = "one two" if number % 2 else "one too"
        answer = read_answer(found, [said(0, 0.9, text, "p0")])
        done.append(type(found)(**{**vars(found), "work": answer, "compared": compare(found, answer, align)}))
    report = people(done, 0.05, 0.05)
    assert report.work_per_audio == 2.0
    assert report.reviewers == {"ann": 60}
    bad, good = report.standings
    assert (good.bundle, good.reviews) == ("good@1", 50)
    assert good.wer.value == pytest.approx(0.25)
    assert good.wer.low < 0.25 < good.wer.high
    assert good.blind.value == pytest.approx(0.5)
    assert good.confusions == (("too", "two", 25),)
    assert [round(rate.value or 0, 2) for _, rate in good.agreement] == [0.25, 0.25, 0.25]
    assert good.error_before is not None
    assert good.error_after is not None
    assert good.error_after < good.error_before
    assert bad.error_before is None, "ten are too few to say"
    assert bad.promise.threshold is None
