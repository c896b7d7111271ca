"""Degrees of automation in a real database: changed by people and by alarms, with a history that stays."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import delete, update
from sqlalchemy.exc import DatabaseError

from speechpipe.control.review.demotion import DemotionSink
from speechpipe.control.review.operations import ReviewOperations
from speechpipe.control.review.policy_cache import PolicyCache
from speechpipe.control.review.policy_repository import DEMOTE_AGAIN_S, Automation, resolve
from speechpipe.control.review.scopes import Scopes
from speechpipe.errors import Conflict, InvalidParameter, UnknownName
from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.storage.schema import automation_history
from speechpipe.foundation.storage.store import Store
from speechpipe.foundation.tenants import tenant_of
from speechpipe.monitor.alarms import Alarm, Condition
from speechpipe.monitor.attribution import source
from speechpipe.serving.automation import Degree
from speechpipe.serving.automation.policy import Policy
from speechpipe.serving.telemetry.cascade_metrics import CASCADE
from tests.databases import DATABASES, mostly_sqlite, place_tables

NUMBERS = itertools.count()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=DATABASES, ids=str)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with request.param.ready(tmp_path) as url:
        found = Store(url)
        yield found
        found.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def automation(store: Store, clock: Clock) -> Automation:
    return Automation(lambda: store.engine, clock)


def firing(metric: str = "asr.confidence", group: str = "consumer upload default@1 champion", **changes: str) -> Alarm:
    given = {"stage": metric.split(".", maxsplit=1)[0], "severity": "page", **changes}
    condition = Condition("drift", metric, given["stage"], given["severity"], group, "it fell")
    return Alarm("a1", condition, changes.get("state", "firing"), 0.0, 0.0, 0.0)


def test_a_tenants_own_policy_begins_as_that_of_everybody(automation: Automation) -> None:
    assert resolve(automation.policies(), "acme") is None
    automation.set("default", {"degree": "assist", "bound": 0.1}, "ann", "the pilot")
    automation.set("acme", {"degree": "partial"}, "bob", "they asked for it")
    found = automation.policies()
    acme, others = resolve(found, "acme"), resolve(found, "zeta")
    assert acme is not None
    assert others is not None
    assert (acme.degree, acme.bound) == (Degree.PARTIAL, 0.1)
    assert others.degree is Degree.ASSIST
    lines = automation.history()
    assert [(line.scope, line.actor, line.was, line.degree, line.reason) for line in lines] == [
        ("acme", "bob", "", "partial", "they asked for it"),
        ("default", "ann", "", "assist", "the pilot"),
    ]


def test_of_two_who_change_it_at_once_one_is_told(automation: Automation) -> None:
    first = automation.set("acme", {"degree": "assist"}, "ann", "")
    automation.set("acme", {"degree": "partial"}, "ann", "", revision=first.revision)
    with pytest.raises(Conflict, match="changed meanwhile"):
        automation.set("acme", {"degree": "full"}, "bob", "", revision=first.revision)
    assert automation.policies()["acme"].policy.degree is Degree.PARTIAL
    for scope in ("", "x" * 200, "a\nb"):
        with pytest.raises(InvalidParameter):
            automation.set(scope, {"degree": "full"}, "bob", "")


def test_the_history_refuses_to_be_changed(automation: Automation, store: Store) -> None:
    automation.set("acme", {"degree": "assist"}, "ann", "")
    for act in (delete(automation_history), update(automation_history).values(actor="nobody")):
        with pytest.raises(DatabaseError), store.engine.begin() as connection:
            connection.execute(act)
    assert len(automation.history()) == 1


def test_an_alarm_takes_the_machine_down_by_one_degree_and_no_further_at_once(
    automation: Automation, clock: Clock
) -> None:
    automation.set("default", {"degree": "full"}, "ann", "")
    automation.set("acme", {"degree": "full"}, "ann", "")
    automation.set("calm", {"degree": "full", "demote": False}, "ann", "")
    sink = DemotionSink(automation, ["acme"])
    sink.send([firing(), firing("vad.trigger_rate")])
    degrees = {scope: found.policy.degree for scope, found in automation.policies().items()}
    assert degrees == {"default": Degree.PARTIAL, "acme": Degree.FULL, "calm": Degree.FULL}
    newest = automation.history()[0]
    assert (newest.actor, newest.action, newest.reason) == ("speechpipe", "demote", "asr.confidence: it fell")
    clock.now += DEMOTE_AGAIN_S / 2
    sink.send([firing()])
    assert automation.policies()["default"].policy.degree is Degree.PARTIAL, "the same degradation"
    clock.now += DEMOTE_AGAIN_S
    sink.send([firing()])
    assert automation.policies()["default"].policy.degree is Degree.ASSIST
    clock.now += 2 * DEMOTE_AGAIN_S
    sink.send([firing()])
    assert automation.policies()["default"].policy.degree is Degree.ASSIST, "there a person sees every word"


@mostly_sqlite("store")
def test_an_enterprises_alarm_is_its_own(automation: Automation) -> None:
    for scope in ("default", "acme"):
        automation.set(scope, {"degree": "full"}, "ann", "")
    DemotionSink(automation, ["acme"]).send([firing(group="enterprise acme upload default@1 champion")])
    degrees = {scope: found.policy.degree for scope, found in automation.policies().items()}
    assert degrees == {"default": Degree.FULL, "acme": Degree.PARTIAL}


@mostly_sqlite("store")
@pytest.mark.parametrize(
    "alarm",
    [
        firing("software.queue_s"),
        firing(severity="investigate"),
        firing(state="resolved"),
        firing(group="consumer upload new@1 canary"),
    ],
)
def test_what_makes_no_text_worse_demotes_nobody(automation: Automation, alarm: Alarm) -> None:
    automation.set("default", {"degree": "full"}, "ann", "")
    DemotionSink(automation, []).send([alarm])
    assert automation.policies()["default"].policy.degree is Degree.FULL


@mostly_sqlite("store")
@pytest.mark.parametrize("metric", ["input.undecodable_share", "input.level_dbfs", "input.zero_run_s"])
def test_what_clients_send_demotes_nobody(automation: Automation, metric: str) -> None:
    automation.set("default", {"degree": "full"}, "ann", "")
    DemotionSink(automation, []).send([firing(metric)])
    assert automation.policies()["default"].policy.degree is Degree.FULL


@mostly_sqlite("store")
def test_what_one_tenant_alone_is_the_cause_of_demotes_that_tenant(automation: Automation) -> None:
    automation.set("default", {"degree": "full"}, "ann", "")
    automation.set("zeta", {"degree": "full"}, "ann", "")
    DemotionSink(automation, [], lambda _: "acme").send([firing()])
    degrees = {scope: found.policy.degree for scope, found in automation.policies().items()}
    assert degrees == {"default": Degree.FULL, "zeta": Degree.FULL, "acme": Degree.PARTIAL}
    assert "only this tenant's sessions cause it" in automation.history()[0].reason


# ---- whose sessions an alarm is about ----


def put(store: Store, tenant: str, values: list[float], measure: str = "asr.confidence") -> None:
    for value in values:
        number = next(NUMBERS)
        record = Record("unit", f"u{number}", f"s{number}", 1000.0, "upload", "default", "1", "ok", tenant=tenant)
        store.append(replace(record, measures={measure: value}))
    store.flush()


def drifted(expected: float, value: float) -> Alarm:
    alarm = firing(group="consumer upload default@1 champion")
    return replace(alarm, pending_at=1000.0, condition=replace(alarm.condition, expected=expected, value=value))


def test_an_alarm_that_stands_without_any_one_tenant_is_everybodys(store: Store) -> None:
    store.open()
    for tenant in ("acme", "zeta", "omega"):
        put(store, tenant, [0.5] * 40)
    assert source(CASCADE, store, drifted(0.9, 0.5), 1010.0) == ""


def test_an_alarm_of_one_tenants_sessions_is_that_tenants(store: Store) -> None:
    store.open()
    put(store, "acme", [0.1] * 60)
    for tenant in ("zeta", "omega"):
        put(store, tenant, [0.9] * 30)
    assert source(CASCADE, store, drifted(0.9, 0.5), 1010.0) == "acme"


def test_where_there_is_one_tenant_only_the_alarm_is_everybodys(store: Store) -> None:
    store.open()
    put(store, "anonymous", [0.1] * 60)
    assert source(CASCADE, store, drifted(0.9, 0.1), 1010.0) == ""


def test_a_tenant_that_drowns_out_the_few_others_is_the_source(store: Store) -> None:
    store.open()
    put(store, "acme", [0.1] * 200)
    put(store, "zeta", [0.1] * 3)
    assert source(CASCADE, store, drifted(0.9, 0.1), 1010.0) == "acme"


# ---- who is meant ----


def test_a_key_means_its_tenant_and_is_kept_nowhere(store: Store, automation: Automation) -> None:
    scopes = Scopes(lambda: store.engine, ["secret-key"], ["acme"])
    assert scopes.resolve("secret-key") == tenant_of("secret-key")
    assert [scopes.resolve(name) for name in ("default", "acme", tenant_of("secret-key"))] == [
        "default",
        "acme",
        tenant_of("secret-key"),
    ]
    stranger = Scopes(lambda: store.engine)  # a shell that does not know the server's keys
    with pytest.raises(UnknownName) as refused:
        stranger.resolve("secret-key")
    assert "secret-key" not in refused.value.message
    assert refused.value.cause == "unknown_tenant"
    automation.set(tenant_of("secret-key"), {"degree": "assist"}, "ann", "")
    assert stranger.resolve("secret-key") == tenant_of("secret-key"), "the store knows the tenant of this key"
    with pytest.raises(InvalidParameter, match="contains an API key"):
        scopes.check("for secret-key, as asked")


def test_a_tenant_is_one_that_has_sent_something_or_is_forced(store: Store) -> None:
    store.open()
    put(store, "zeta", [0.9])
    scopes = Scopes(lambda: store.engine)
    assert scopes.resolve("zeta") == "zeta"
    with pytest.raises(UnknownName, match="automation tenant"):
        scopes.resolve("nobody")
    assert scopes.resolve("nobody", force=True) == "nobody"
    with pytest.raises(UnknownName, match="'default'"):
        scopes.resolve("Default")


# ---- without the store ----


class Book:
    """A `PolicyCache` in a state directory, on a store that is there or not."""

    def __init__(self, folder: Path, url: str = "", default: Degree = Degree.FULL) -> None:
        self.store = Store(url or place_tables(folder / "speechpipe.db"))
        self.operations = ReviewOperations(self.store, lambda: 1000.0, base=Policy(default))
        self.policy_cache = PolicyCache(self.operations, folder / "automation.json", lambda: 1000.0)

    def degree(self, tenant: str = "anybody") -> str:
        return self.policy_cache.terms(tenant).degree


GONE = "sqlite:////proc/nowhere/r.db"


def test_without_the_store_the_copy_holds(tmp_path: Path) -> None:
    one = Book(tmp_path)
    one.operations.automation.set("acme", {"degree": "human_only"}, "ann", "")
    one.policy_cache.refresh()
    again = Book(tmp_path, GONE)
    assert (again.degree("acme"), again.degree()) == ("human_only", "full")
    (tmp_path / "automation.json").write_text("{broken")
    damaged = Book(tmp_path, GONE)
    assert damaged.degree() == damaged.degree("acme") == "assist"


def test_without_the_store_and_the_copy_people_are_asked(tmp_path: Path) -> None:
    one = Book(tmp_path)
    one.operations.automation.set("default", {"degree": "human_only"}, "ann", "")
    one.policy_cache.refresh()
    one.store.close()
    (tmp_path / "speechpipe.db").write_bytes(b"this is no database" * 1000)
    (tmp_path / "automation.json").unlink()
    assert Book(tmp_path).degree() == "assist"
    assert Book(tmp_path, default=Degree.HUMAN_ONLY).degree() == "human_only"


def test_a_server_that_has_never_run_begins_at_the_default(tmp_path: Path) -> None:
    assert Book(tmp_path, GONE).degree() == "full"
    found = Book(tmp_path, default=Degree.PARTIAL)
    found.policy_cache.refresh()
    assert found.degree() == "partial"
    assert found.policy_cache.terms("anybody").followed
    found.operations.automation.set("acme", {"bound": 0.1}, "ann", "")
    found.policy_cache.refresh()
    assert found.degree("acme") == "partial"


@pytest.mark.parametrize("restarted", [True, False])
def test_a_store_that_was_deleted_gets_the_policies_back(tmp_path: Path, restarted: bool) -> None:
    one = Book(tmp_path)
    one.operations.automation.set("default", {"degree": "human_only"}, "ann", "")
    one.operations.automation.set("acme", {"degree": "partial", "bound": 0.1}, "ann", "")
    one.policy_cache.refresh()
    one.store.close()
    for path in tmp_path.glob("speechpipe.db*"):
        path.unlink()
    found = Book(tmp_path) if restarted else one
    found.policy_cache.refresh()
    assert (found.degree("acme"), found.degree()) == ("partial", "human_only")
    kept = found.operations.automation.policies()
    assert {scope: item.policy.bound for scope, item in kept.items()} == {"default": 0.05, "acme": 0.1}
    assert [(line.scope, line.action) for line in found.operations.automation.history()] == [
        ("acme", "restore"),
        ("default", "restore"),
    ]


def test_a_store_that_was_away_and_comes_back_gets_the_changes_made_meanwhile(tmp_path: Path) -> None:
    one = Book(tmp_path)
    one.operations.automation.set("default", {"degree": "full"}, "ann", "")
    one.operations.automation.set("acme", {"degree": "partial"}, "ann", "")
    one.policy_cache.refresh()
    one.store.close()
    away = tmp_path / "away"
    away.mkdir()
    for path in tmp_path.glob("speechpipe.db*"):
        path.rename(away / path.name)
    one.policy_cache.refresh()
    one.operations.automation.set("default", {"degree": "assist"}, "ann", "")
    one.policy_cache.refresh()
    one.store.close()
    for path in away.iterdir():
        path.replace(tmp_path / path.name)
    one.policy_cache.refresh()
    assert (one.degree(), one.degree("acme")) == ("assist", "partial")
    found = Book(tmp_path)
    found.policy_cache.refresh()
    assert (found.degree(), found.degree("acme")) == ("assist", "partial")
