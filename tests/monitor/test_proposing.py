"""First references: traffic that crosses a limit becomes none."""

from pathlib import Path

from speechpipe.foundation.storage.store import Store
from speechpipe.monitor.alarms import Alarm, Condition
from speechpipe.monitor.profiles import Budget
from speechpipe.monitor.proposing import counts_from
from speechpipe.monitor.watch import Watcher, WatchOptions
from speechpipe.monitor.windows import Group
from tests.databases import place_tables
from tests.monitor.test_watch import put
from tests.records import SPEC, traffic

GROUP = Group("consumer", "", "upload", "b@1", "champion")


def alarm(rule: str = "limit", severity: str = "page", group: Group = GROUP, until: float | None = 300.0) -> Alarm:
    condition = Condition(rule, "model.null_share", "model", severity, group.label, "too many")
    return Alarm("a", condition, "firing" if until is None else "resolved", 100.0, 110.0, until)


def test_traffic_counts_from_the_end_of_the_last_page_of_a_limit() -> None:
    assert counts_from(GROUP, [], 50.0) == (50.0, "")
    assert counts_from(GROUP, [alarm(until=200.0), alarm()], 50.0) == (300.0, "")
    assert counts_from(GROUP, [alarm(), alarm(until=None)], 50.0) == (float("inf"), "model.null_share")


def test_other_alarms_do_not_keep_traffic_from_counting() -> None:
    other = GROUP._replace(channel="live")
    alarms = [alarm("drift"), alarm("reference", until=None), alarm(severity="investigate"), alarm(group=other)]
    assert counts_from(GROUP, alarms, 50.0) == (50.0, "")


def test_an_alarm_that_never_fired_does_not_count() -> None:
    pending = Alarm("a", alarm().condition, "pending", 100.0)
    assert counts_from(GROUP, [pending], 50.0) == (50.0, "")


def test_a_reference_is_proposed_from_what_came_after_the_page(tmp_path: Path) -> None:
    store = Store(place_tables(tmp_path / "store.db"))
    store.open()
    watcher = Watcher(SPEC, store, [], WatchOptions(Budget(page=10.0, investigate=10.0)))
    for start in range(0, 900, 60):
        put(store, traffic(60, start=start, first=start, null_share=0.9, seed=start))
        watcher.tick(start + 60)
    assert any(one.state == "firing" for one in watcher.archive.alarms())
    assert watcher.archive.references() == [], "900 units, but 9 in 10 without an answer"
    for start in range(900, 3_900, 60):
        put(store, traffic(60, start=start, first=start, seed=start))
        watcher.tick(start + 60)
    (reference,) = watcher.archive.references()
    (page,) = [one for one in watcher.archive.alarms(0.0) if one.condition.rule == "limit"]
    assert page.resolved_at is not None
    assert reference.since >= page.resolved_at
    assert reference.window.metrics["model.null_share"].total / reference.units < 0.1
    store.close()
