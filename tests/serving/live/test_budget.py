"""What all sessions hold together."""

from speechpipe.serving.live.budget import FREE_BYTES, ByteBudget


def test_what_is_free_counts_for_nobody() -> None:
    budget = ByteBudget(1000)
    holders = [budget.holder() for _ in range(100)]
    for holder in holders:
        holder.set(FREE_BYTES)
    assert budget.held == 0
    assert not budget.exhausted


def test_who_holds_more_than_is_free_is_told_when_the_limit_is_passed() -> None:
    budget = ByteBudget(1000)
    first, second, small = budget.holder(), budget.holder(), budget.holder()
    first.set(FREE_BYTES + 900)
    assert [holder.too_much for holder in (first, second, small)] == [False, False, False]
    second.set(FREE_BYTES + 200)
    small.set(FREE_BYTES)
    assert budget.exhausted
    assert [holder.too_much for holder in (first, second, small)] == [True, True, False]
    first.set(0)
    assert [holder.too_much for holder in (first, second, small)] == [False, False, False]
    second.set(0)
    assert budget.held == 0
