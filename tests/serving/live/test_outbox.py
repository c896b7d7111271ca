"""What a client is told: everything that lasts, once, in order; the newest partial result only."""

import json

import pytest

from speechpipe.errors import InvalidParameter
from speechpipe.serving.live.outbox import KEPT, Goodbye, Outbox


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


def test_it_knows_since_when_nobody_reads() -> None:
    outbox = Outbox()

    def absent() -> bool:
        return outbox.detached_at is not None

    assert absent(), "nobody has come yet"
    first = outbox.attach(lambda: None)
    assert not absent()
    second = outbox.attach(lambda: None, after=0)
    assert not outbox.detach(first), "the late end of the old connection"
    assert not absent()
    assert outbox.detach(second)
    gone = outbox.detached_at
    assert absent()
    assert outbox.detach(second)
    assert outbox.detached_at == gone, "it did not go a second time"


def test_a_reader_that_is_replaced_is_woken() -> None:
    outbox, woken = Outbox(), []
    first = outbox.attach(lambda: woken.append(1))
    outbox.attach(lambda: None, after=0)
    assert woken == [1]
    assert outbox.take(first) is None


def test_an_impossible_resumption_changes_nothing() -> None:
    outbox = Outbox()
    reader = outbox.attach(lambda: None)
    outbox.put({"text": "one"})
    outbox.detach(reader)
    gone = outbox.detached_at
    with pytest.raises(InvalidParameter):
        outbox.attach(lambda: None, after=7)
    assert outbox.detached_at == gone
    assert texts(outbox.take(outbox.attach(lambda: None, after=0))) == ["one"]


def test_only_an_answered_goodbye_says_that_everything_arrived() -> None:
    outbox = Outbox()
    reader = outbox.attach(lambda: None)
    outbox.confirm(reader)
    assert not outbox.confirmed, "there was no goodbye"
    outbox.put({"text": "final"})
    outbox.close(Goodbye(1000, "ok"))
    assert texts(outbox.take(reader)) == ["final"]
    assert outbox.drained
    assert not outbox.confirmed, "taken is not arrived"
    outbox.detach(reader)
    again = outbox.attach(lambda: None, after=0)
    outbox.confirm(reader)
    assert not outbox.confirmed, "another connection reads now"
    assert texts(outbox.take(again)) == ["final"]
    outbox.confirm(again)
    assert outbox.confirmed
