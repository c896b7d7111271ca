"""Blue/green by simulation: candidates that are as good stay, also where users come again; worse ones go."""

import random
from collections.abc import Callable

import pytest

from speechpipe.control.rollout import Judgement
from speechpipe.control.rollout.analysis import highest_rate, judge
from speechpipe.control.rollout.arm_counts import ArmCounts, Sessions, baseline
from speechpipe.control.rollout.plan import parse
from speechpipe.control.rollout.speech_guards import GUARDS
from speechpipe.foundation.storage.record import Measure, Record
from speechpipe.serving.assignment import CANARY, CHAMPION, ROLLOUT, STEP, UNIT

PLAN = parse(
    'candidate="new"\napproval="none"\n[[steps]]\nmode="blue_green"\nmargin=1.5\nleast_sessions=200\n', GUARDS.rates
)
SESSIONS = 2000


def records(number: int, arm: str, user: str, *, empty: bool) -> list[Record]:
    measures: dict[str, Measure] = {"input.duration_s": 3.0, "vad.segments": 1, UNIT: user or f"s{number}"}
    if arm == CANARY:
        measures |= {ROLLOUT: 1, STEP: 0}
    return [
        Record(
            kind, f"{kind}{number}", f"s{number}", float(number), "upload", "b", "1", out, arm=arm, measures=measures
        )
        for kind, out in (("unit", "empty" if empty else "ok"), ("session", "ok"))
    ]


Rate = Callable[[str], float]


def run(seed: int, users: int, before: Rate, after: Rate) -> tuple[str, int]:
    """Return how a rollout ends, and after how many sessions."""
    rolled = random.Random(seed)

    def session(number: int, arm: str, rate: Rate) -> list[Record]:
        user = f"u{rolled.randrange(users)}" if users else ""
        return records(number, arm, user, empty=rolled.random() < rate(user))

    old = [record for n in range(SESSIONS) for record in session(n, CHAMPION, before)]
    known = baseline(GUARDS, old, PLAN.slow_s)
    arm_counts = ArmCounts(GUARDS, 1, 0, PLAN.slow_s)
    for number in range(SESSIONS):
        for record in session(SESSIONS + number, CANARY, after):
            arm_counts.take(record)
        if number % 100 == 0:
            found = judge(PLAN, 0, arm_counts, known)
            if found.judgement is not Judgement.HOLD:
                return found.judgement.value, number
    return "hold", SESSIONS


@pytest.mark.long
@pytest.mark.parametrize("users", [0, 300, 100])
def test_a_candidate_that_is_as_good_is_rolled_back_in_one_of_a_hundred_at_most(users: int) -> None:
    ends = [run(seed, users, lambda _: 0.06, lambda _: 0.06)[0] for seed in range(30)]
    assert ends.count("roll_back") == 0, ends


def test_nor_where_a_few_users_have_most_of_the_trouble() -> None:
    def unlucky(user: str) -> float:
        return 0.6 if user in ("u1", "u2", "u3", "u4") else 0.01

    ends = [run(seed, 100, unlucky, unlucky)[0] for seed in range(8)]
    assert ends.count("roll_back") == 0, ends


@pytest.mark.parametrize("users", [0, 300, 100, 5])
def test_a_worse_one_is_rolled_back_soon_whoever_the_users_are(users: int) -> None:
    ends = [run(seed, users, lambda _: 0.02, lambda _: 0.2) for seed in range(5)]
    assert [end for end, _ in ends] == ["roll_back"] * 5
    assert max(after for _, after in ends) <= 300


def test_one_that_breaks_when_all_users_have_been_there_is_rolled_back_too() -> None:
    rolled = random.Random(0)
    old = [r for n in range(1000) for r in records(n, CHAMPION, f"u{n % 50}", empty=rolled.random() < 0.02)]
    arm_counts = ArmCounts(GUARDS, 1, 0, PLAN.slow_s)
    for number in range(400):
        broken = number >= 200 and rolled.random() < 0.5
        for record in records(number, CANARY, f"u{number % 50}", empty=broken):
            arm_counts.take(record)
    known = baseline(GUARDS, old, PLAN.slow_s)
    assert judge(PLAN, 0, arm_counts, known).judgement is Judgement.ROLL_BACK


def test_users_who_come_again_do_not_stand_in_the_way_of_a_good_candidate() -> None:
    ends = [run(seed, 100, lambda _: 0.02, lambda _: 0.0)[0] for seed in range(5)]
    assert ends.count("promote") == 5, ends


def test_the_champions_rate_is_in_doubt_as_far_as_its_sessions_leave_it() -> None:
    assert highest_rate(0, 100, 0.05) == pytest.approx(1 - 0.05**0.01, rel=1e-6)
    assert highest_rate(20, 1000, 0.05) == pytest.approx(0.0290, abs=2e-4)
    assert highest_rate(5, 5, 0.01) == 1.0


def test_sessions_of_one_user_count_for_less_where_they_are_alike() -> None:
    alike, mixed = Sessions(), Sessions()
    for number in range(100):
        for sessions, user in ((alike, f"u{number // 10}"), (mixed, f"u{number % 10}")):
            sessions.add(user, event=False)
            if number < 20:
                sessions.add(user, event=True)
    assert alike.effect == pytest.approx(10.0)
    assert mixed.effect == 1.0
