"""When a client has stopped sending, and when it only sends rarely."""

from speechpipe.serving.live.arrivals import MOST_PATIENCE_S, Arrivals


def fed(gap_s: float, count: int, limit_s: float = 1.5) -> tuple[Arrivals, float]:
    arrivals, now = Arrivals(limit_s), 100.0
    for _ in range(count):
        now += gap_s
        arrivals.note(now)
    return arrivals, now


def test_a_client_that_stops_is_noticed_after_the_limit() -> None:
    arrivals, last = fed(0.02, 100)
    assert arrivals.pause_s(last + 1.4) == 0.0
    assert arrivals.pause_s(last + 1.6) > 1.5


def test_nothing_is_a_pause_before_the_first_audio() -> None:
    assert Arrivals(1.5).pause_s(10**6) == 0.0


def test_one_large_piece_is_followed_by_a_pause_too() -> None:
    arrivals, last = fed(1.0, 1)
    assert arrivals.pause_s(last + 1.6) > 0


def test_who_sends_a_piece_every_five_seconds_has_not_stopped() -> None:
    arrivals, last = fed(5.0, 4)
    assert arrivals.pause_s(last + 5.5) == 0.0
    assert arrivals.pause_s(last + 8.0) > 0


def test_patience_has_an_end_and_one_long_pause_does_not_teach_it() -> None:
    rare, last = fed(30.0, 10)
    assert rare.pause_s(last + MOST_PATIENCE_S + 0.1) > 0
    often, last = fed(0.02, 100)
    often.note(last + 20.0)
    assert often.pause_s(last + 21.6) > 0


def test_the_time_of_a_dropped_connection_is_no_pause() -> None:
    arrivals, last = fed(0.02, 100)
    arrivals.restart(last + 20.0)
    assert arrivals.pause_s(last + 21.0) == 0.0
