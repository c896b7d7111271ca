"""Whatever comes in from people and from other tools is read or refused, never an accident."""

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from speechpipe.errors import BadInput
from speechpipe.evaluation import align
from speechpipe.review.agreement import compare
from speechpipe.review.degrees import Policy
from speechpipe.review.label_studio import Imported, answer, read
from speechpipe.review.tasks import BEYOND_S, read_answer
from tests.review.tasks import task

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
NAMES = st.sampled_from(["start", "end", "text", "kind", "of", "id", "value", "type", "labels", "data", "annotations"])
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=4), inner, max_size=5)
)
SEGMENT = st.fixed_dictionaries(
    {"start": st.floats(-1, 12), "end": st.floats(-1, 12), "text": st.text(max_size=12)},
    optional={
        "kind": st.sampled_from(["speech", "no_speech", "unintelligible", "song"]),
        "of": st.lists(st.sampled_from(["p0", "p2", "p9"]), max_size=3),
    },
)


@given(ANYTHING | st.lists(SEGMENT, max_size=6))
def test_an_answer(given_: Any) -> None:
    with contextlib.suppress(BadInput):
        said = read_answer(task(), given_)
        found = compare(task(), said, align)
        assert all(0 <= one.start_s < one.end_s <= task().duration_s + BEYOND_S for one in said)
        assert [one.start_s for one in said] == sorted(one.start_s for one in said)
        for unit in found["units"]:
            assert unit["edits"] == unit["substitutions"] + unit["deletions"] + unit["insertions"]
            assert unit["chance"] == 1.0


@given(ANYTHING)
def test_an_export_of_another_tool(given_: Any) -> None:
    with contextlib.suppress(BadInput):
        for one in read(given_):
            answer(task(), one)


@given(st.lists(ANYTHING, max_size=4))
def test_its_regions(given_: list[Any]) -> None:
    with contextlib.suppress(BadInput):
        answer(task(), Imported("t1", "beef", "x", given_))


@given(st.dictionaries(st.sampled_from(["degree", "bound", "audit_share", "demote", "speed"]), PLAIN))
def test_a_policy(changes: dict[str, Any]) -> None:
    with contextlib.suppress(BadInput):
        found = Policy().changed(changes)
        assert Policy().changed(found.document()) == found
