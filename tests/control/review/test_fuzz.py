"""Whatever comes in from people and from other tools is read or refused, never an accident."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechpipe.cascade.evaluation.scores import align
from speechpipe.control.review.agreement import compare
from speechpipe.control.review.label_studio import Imported, answer, read
from speechpipe.control.review.tasks import BEYOND_S, read_answer
from speechpipe.errors import BadInput
from speechpipe.serving.automation.policy import Policy
from tests.control.review.tasks import task

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


TEXTS = st.sampled_from(["", "one two", "one too", "Ärger"])
ANSWER = st.tuples(TEXTS, TEXTS).map(
    lambda texts: [
        {"start": at, "end": at + 0.9, "text": text, "kind": "speech" if text else "no_speech", "of": [name]}
        for at, text, name in zip((0.0, 2.0), texts, ("p0", "p2"), strict=True)
    ]
)
SPAN = {"start": st.floats(0, 4), "end": st.floats(5, 9)}
REGION = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["p0", "p2", "r9"]),
        "type": st.just("textarea"),
        "value": st.fixed_dictionaries({**SPAN, "text": TEXTS.filter(bool).map(lambda text: [text])}),
    }
)
EXPORT = st.lists(
    st.fixed_dictionaries(
        {
            "data": st.just({"speechpipe_id": "t1", "audio_sha256": "beef"}),
            "annotations": st.lists(st.fixed_dictionaries({"result": st.lists(REGION, max_size=2)}), max_size=2),
        }
    ),
    max_size=2,
)
FIELDS = st.sampled_from(["degree", "bound", "audit_share", "demote"])
VALUES = st.sampled_from(["assist", "full", True, False, 0.1, 0.5])

TAKEN: Counter[str] = Counter()
"""Examples that were read, by test: one that refused all of them would prove nothing."""


@contextlib.contextmanager
def read_or_refused(what: str) -> Iterator[None]:
    """Count an example that is read; let nothing but a refusal pass."""
    with contextlib.suppress(BadInput):
        yield
        TAKEN[what] += 1


@given(ANYTHING | st.lists(SEGMENT, max_size=6) | ANSWER)
def check_answer(given_: Any) -> None:
    with read_or_refused("answer"):
        said = read_answer(task(), given_)
        found = compare(task(), said, align)
        assert all(0 <= one.start_s < one.end_s <= task().duration_s + BEYOND_S for one in said)
        assert [one.start_s for one in said] == sorted(one.start_s for one in said)
        for unit in found["units"]:
            assert unit["edits"] == unit["substitutions"] + unit["deletions"] + unit["insertions"]
            assert unit["chance"] == 1.0


@given(ANYTHING | EXPORT)
def check_export(given_: Any) -> None:
    with read_or_refused("export"):
        for one in read(given_):
            answer(task(), one)
            TAKEN["exported answer"] += 1


@given(st.lists(ANYTHING | REGION, max_size=4))
def check_regions(given_: list[Any]) -> None:
    with read_or_refused("regions"):
        found = answer(task(), Imported("t1", "beef", "x", given_))
        assert all(0 <= one.start_s < one.end_s for one in found)


@given(st.dictionaries(FIELDS | st.just("speed"), PLAIN) | st.dictionaries(FIELDS, VALUES, max_size=2))
def check_policy(changes: dict[str, Any]) -> None:
    with read_or_refused("policy"):
        found = Policy().changed(changes)
        assert Policy().changed(found.document()) == found


@pytest.mark.parametrize(
    ("check", "names"),
    [
        (check_answer, ["answer"]),
        (check_export, ["export", "exported answer"]),
        (check_regions, ["regions"]),
        (check_policy, ["policy"]),
    ],
)
def test_what_comes_in_is_read_or_refused_and_some_of_it_is_read(check: Callable[[], None], names: list[str]) -> None:
    TAKEN.clear()
    check()
    for name in names:
        assert TAKEN[name] >= 5, f"of 100 examples {TAKEN[name]} were taken as {name}"
