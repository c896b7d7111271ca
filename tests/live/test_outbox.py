"""What a client is told: everything that lasts, once, in order; the newest partial result only."""

import json

import pytest

from speechpipe.errors import InvalidParameter
from speechpipe.live.outbox import KEPT, Goodbye, Outbox


def texts(taken: object) -> list[str]:
    assert isinstance(taken, list)
    return [json.loads(item)["text"] for item in taken]


def test_partial_results_replace_each_other_and_are_withdrawn() -> None:
    outbox = Outbox()
    reader = outbox.attach(lambda: None)
    for word in "abc":
        outbox.put_partial(0, {"text": word})
    outbox.put({"text": "final"})
    assert texts(outbox.take(reader)) == ["final", "c"]
    outbox.put_partial(0, {"text": "late"})
    outbox.forget_partial(0)
    assert texts(outbox.take(reader)) == []
    assert outbox.superseded == 3


def test_a_new_reader_gets_what_the_old_one_did_not_see_once() -> None:
    outbox = Outbox()
    first = outbox.attach(lambda: None)
    for number in range(4):
        outbox.put({"text": str(number)})
    outbox.take(first)
    second = outbox.attach(lambda: None, after=2)
    assert outbox.take(first) is None, "taken over"
    assert not outbox.detach(first)
    assert texts(outbox.take(second)) == ["2", "3"]
    assert outbox.replayed == 2
    assert texts(outbox.take(second)) == []


def test_what_is_not_kept_cannot_be_continued() -> None:
    outbox = Outbox()
    reader = outbox.attach(lambda: None)
    for number in range(KEPT + 10):
        outbox.put({"text": str(number)})
        outbox.take(reader)
    assert not outbox.overflowed
    for after in (5, KEPT + 11):
        with pytest.raises(InvalidParameter):
            outbox.attach(lambda: None, after=after)


def test_a_client_that_does_not_read_is_noticed() -> None:
    outbox = Outbox()
    outbox.attach(lambda: None)
    for number in range(KEPT + 1):
        outbox.put({"text": str(number)})
    assert outbox.overflowed


def test_goodbye_comes_last() -> None:
    outbox = Outbox()
    reader = outbox.attach(lambda: None)
    outbox.put({"text": "final"})
    outbox.close(Goodbye(1000, "ok"))
    assert texts(outbox.take(reader)) == ["final"]
    assert outbox.take(reader) == Goodbye(1000, "ok")
    assert outbox.drained
