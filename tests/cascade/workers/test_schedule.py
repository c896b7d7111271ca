"""What a worker does next."""

import numpy as np

from speechpipe.cascade.asr import DecodeOptions
from speechpipe.cascade.workers import RecognizerSpec
from speechpipe.cascade.workers.messages import Feed, Finish, Open
from speechpipe.cascade.workers.schedule import Schedule

SPEC = RecognizerSpec("scripted")
BLOCK = np.zeros(16, np.float32)


def feed(stream: int, *, endpoint_near: bool = False) -> Feed:
    return Feed(stream, BLOCK, endpoint_near)


def drained(schedule: Schedule) -> list[tuple[str, int]]:
    done = []
    while schedule:
        request = schedule.next()
        done.append((type(request).__name__, request.stream))
    return done


def test_streams_take_turns_however_far_behind_one_is() -> None:
    schedule = Schedule()
    for _ in range(3):
        schedule.add(feed(1))
    schedule.add(Open(2, SPEC, DecodeOptions()))
    schedule.add(feed(2))
    assert [number for _, number in drained(schedule)] == [1, 2, 2, 1, 1]


def test_a_segment_that_ends_goes_first() -> None:
    schedule = Schedule()
    schedule.add(feed(1))
    schedule.add(feed(2))
    schedule.add(feed(3))
    schedule.add(Finish(3))
    assert drained(schedule) == [("Feed", 3), ("Finish", 3), ("Feed", 1), ("Feed", 2)]


def test_what_is_dropped_is_not_done() -> None:
    schedule = Schedule()
    for step in (feed(1), Finish(1), feed(2)):
        schedule.add(step)
    schedule.drop(1)
    assert drained(schedule) == [("Feed", 2)]


def test_whoever_pauses_is_worked_off_before_those_who_speak_and_after_those_who_ended() -> None:
    schedule = Schedule()
    for request in (feed(1), feed(2), feed(2, endpoint_near=True), feed(3), feed(4, endpoint_near=True), Finish(3)):
        schedule.add(request)
    schedule.add(feed(4))  # speech goes on: back into the row
    assert [number for _, number in drained(schedule)] == [3, 3, 2, 2, 1, 4, 4]


def test_a_pause_that_ended_leaves_nothing_behind() -> None:
    schedule = Schedule()
    for request in (feed(1, endpoint_near=True), feed(2, endpoint_near=True), Finish(2)):
        schedule.add(request)
    schedule.drop(1)
    schedule.add(feed(1))
    assert drained(schedule) == [("Feed", 2), ("Finish", 2), ("Feed", 1)]
