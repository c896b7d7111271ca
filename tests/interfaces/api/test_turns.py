"""One request with a large body begins in each turn of the event loop; others run in between."""

import asyncio

from speechpipe.interfaces.api.turns import Turns


def test_a_crowd_goes_one_by_one_in_order_and_others_run_between() -> None:
    async def run() -> list[str]:
        turns, order = Turns(), list[str]()

        async def large(number: int) -> None:
            await turns.turn()
            order.append(f"large {number}")

        async def short() -> None:
            order.append("short")

        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(large(number))
            await asyncio.sleep(0)
            group.create_task(short())
        return order

    order = asyncio.run(run())
    assert [item for item in order if item != "short"] == [f"large {number}" for number in range(20)]
    assert order.index("short") <= 3


def test_one_who_gives_up_waiting_holds_up_nobody() -> None:
    async def run() -> None:
        turns = Turns()
        waiting = [asyncio.create_task(turns.turn()) for _ in range(5)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        waiting[3].cancel()
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert [isinstance(item, asyncio.CancelledError) for item in done] == [False, True, False, True, False]
        await turns.turn()  # and it begins anew

    asyncio.run(asyncio.wait_for(run(), 30))
