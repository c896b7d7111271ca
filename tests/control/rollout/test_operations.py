"""Rollouts on a store: plans, steps, evidence, two operators, history. No server, no audio."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update
from sqlalchemy.exc import DatabaseError

from speechpipe.control.rollout import Judgement, Status
from speechpipe.control.rollout.operations import RolloutOperations, Verified
from speechpipe.control.rollout.plan import Plan, parse, read, template
from speechpipe.control.rollout.speech_guards import GUARDS
from speechpipe.errors import BadInput, Conflict, StoreUnavailable, UnknownName
from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.storage.schema import rollout_history, routes
from speechpipe.foundation.storage.store import Store
from speechpipe.serving.assignment import ROLLOUT, STEP, UNIT
from tests.databases import DATABASES, mostly_sqlite

PLAN = """
candidate = "new"
approval = "{approval}"
[[steps]]
mode = "canary"
weight = 0.25
margin = 3.0
least_sessions = 20
[[steps]]
mode = "canary"
weight = 0.5
margin = 2.0
least_sessions = 20
[guards]
{guards}
"""


def plan(approval: str = "promotion") -> Plan:
    guards = "\n".join(f"{name} = 0.1" for name in GUARDS.rates)
    return parse(PLAN.format(approval=approval, guards=guards), GUARDS.rates)


class Bench:
    """Operations, their store, and sessions that fall on its arms."""

    def __init__(self, store: Store, bundles: dict[str, str]) -> None:
        self.store = store
        self.bundles = bundles
        self.operations = self.another()
        self.operations.serve("old", "old@1")
        self.count = 0

    def another(self, clock: Callable[[], float] = lambda: 1_000.0) -> RolloutOperations:
        def verify(name: str) -> Verified:
            if name not in self.bundles:
                raise UnknownName(f"no bundle {name}")
            return Verified(f"{name}@1", self.bundles[name])

        return RolloutOperations(self.store, GUARDS, verify, clock)

    def traffic(self, sessions: int, *, empty: dict[str, float] | None = None, user: str = "") -> None:
        rollout = self.operations.state().rollout
        assert rollout is not None
        for _ in range(sessions):
            self.count += 1
            name = f"s{self.count}"
            arm = rollout.arm(user or name)
            bad = (self.count * 0.618) % 1 < (empty or {}).get(arm, 0.0)
            self.put("unit", name, arm, rollout, "empty" if bad else "ok", user or name)
            self.put("session", name, arm, rollout, "ok", user or name)
        self.store.flush()

    def counted(self) -> Counter[str]:
        """Sessions on each arm, off the records."""
        return Counter(record.arm for record in self.store.read("session"))

    def put(self, kind: str, name: str, arm: str, rollout: Any, outcome: str, unit: str) -> None:
        measures = {ROLLOUT: rollout.id, STEP: rollout.step, UNIT: unit, "input.duration_s": 3.0, "vad.segments": 1}
        at = 1000.0 + self.count
        record = Record(kind, f"{kind}-{name}", name, at, "upload", "b", "1", outcome, arm=arm, measures=measures)
        self.store.append(record)


@pytest.fixture(params=DATABASES, ids=str)
def at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with request.param.ready(tmp_path) as url:
        store = Store(url)
        store.open()
        yield Bench(store, {"old": "h0", "new": "h1"})
        store.close()


def test_a_good_candidate_climbs_on_evidence_and_a_person_promotes_it(at: Bench) -> None:
    operations = at.operations
    state = operations.start(plan(), "ann")
    assert state.active is not None
    assert state.aliases == {"champion": "old@1", "challenger": "new@1"}
    assert operations.reconcile() == operations.state(), "no evidence, no step"
    at.traffic(400)
    state = operations.reconcile()
    assert state.rollout is not None
    assert (state.rollout.step, state.rollout.status) == (1, Status.RUNNING)
    found = operations.evidence(state)
    assert found is not None
    assert found[1].units.total() == 0, "a step is judged by its own sessions"
    with pytest.raises(Conflict, match="does not support a promotion"):
        operations.promote("ann")
    at.traffic(200)
    state = operations.reconcile()
    assert state.rollout is not None
    assert state.rollout.status is Status.WAITING
    assert state.champion == "old@1", "a person is asked"
    state = operations.approve("ann", "looks good")
    assert (state.champion, state.previous) == ("new@1", "old@1")
    assert state.active is None
    actions = [(entry.action, entry.actor) for entry in operations.history()]
    mine, machine = "ann", "speechpipe"
    assert actions == [
        ("promote", mine),
        ("ask", machine),
        ("advance", machine),
        ("start", mine),
        ("serve", machine),
    ]
    assert operations.history()[0].evidence["judgement"] == "promote"
    state = operations.roll_back("bob", "people complain")
    assert (state.champion, state.previous) == ("old@1", "")


@mostly_sqlite("at")
def test_nobody_is_asked_where_the_plan_says_so(at: Bench) -> None:
    at.operations.start(plan("none"), "ann")
    for sessions in (400, 200):
        at.traffic(sessions)
        at.operations.reconcile()
    assert at.operations.state().champion == "new@1"


@mostly_sqlite("at")
def test_a_worse_candidate_is_rolled_back_by_itself(at: Bench) -> None:
    at.operations.start(plan(), "ann")
    at.traffic(300, empty={"champion": 0.05, "canary": 0.5})
    state = at.operations.reconcile()
    assert state.rollout is not None
    assert state.rollout.status is Status.ROLLED_BACK
    assert state.rollout.reason.startswith("empty: ")
    assert state.champion == "old@1"
    assert state.rollout.arm("anybody") == "champion"


@mostly_sqlite("at")
def test_one_user_with_many_sessions_counts_once(at: Bench) -> None:
    state = at.operations.start(plan(), "ann")
    assert state.rollout is not None
    user = next(name for name in (f"u{i}" for i in range(100)) if state.rollout.arm(name) == "canary")
    at.traffic(200, empty={"canary": 1.0}, user=user)
    found = at.operations.evidence(at.operations.state())
    assert found is not None
    evidence, arm_counts = found
    assert arm_counts.sessions["canary"] == 200
    assert arm_counts.events["empty"]["canary"] == 1
    assert evidence.judgement is Judgement.HOLD


@mostly_sqlite("at")
def test_a_router_that_splits_otherwise_voids_the_evidence(at: Bench) -> None:
    state = at.operations.start(plan("none"), "ann")
    for number in range(400):
        at.put("session", f"x{number}", "champion" if number % 20 else "canary", state.rollout, "ok", f"x{number}")
    at.store.flush()
    found = at.operations.evidence(state)
    assert found is not None
    assert "routing is not as planned" in found[0].reason
    assert at.operations.reconcile().revision == state.revision


@mostly_sqlite("at")
def test_a_paused_rollout_goes_nowhere_but_back(at: Bench) -> None:
    operations = at.operations
    operations.start(plan("none"), "ann")
    operations.pause("ann", "lunch")
    with pytest.raises(Conflict, match="paused already"):
        operations.pause("ann")
    at.traffic(400)
    assert operations.reconcile().rollout.step == 0  # type: ignore[union-attr]
    at.traffic(300, empty={"canary": 0.9})
    assert operations.reconcile().rollout.status is Status.ROLLED_BACK  # type: ignore[union-attr]


def test_two_operators_at_once_one_wins_and_the_other_is_told(at: Bench) -> None:
    at.operations.start(plan(), "ann")
    first = at.operations

    def late() -> float:  # the time of a change is read after the state, and before the change is written
        first.pause("ann")
        return 1_000.0

    with pytest.raises(Conflict, match="at the same time"):
        at.another(late).pause("bob")
    assert [entry.actor for entry in first.history()] == ["ann", "ann", "speechpipe"]


@mostly_sqlite("at")
def test_what_cannot_be_done_says_why(at: Bench) -> None:
    operations = at.operations
    for call in (operations.approve, operations.promote, operations.pause, operations.resume):
        with pytest.raises(Conflict, match="no rollout is in progress"):
            call("ann")
    with pytest.raises(Conflict, match="nothing to roll back to"):
        operations.roll_back("ann", "why not")
    with pytest.raises(UnknownName):
        operations.start(read({"candidate": "gone", "steps": plan().document()["steps"]}, GUARDS.rates), "ann")
    with pytest.raises(Conflict, match="is the champion already"):
        operations.start(read({"candidate": "old", "steps": plan().document()["steps"]}, GUARDS.rates), "ann")
    operations.start(plan(), "ann")
    with pytest.raises(Conflict, match="in progress"):
        operations.start(plan(), "bob")
    with pytest.raises(Conflict, match="not paused"):
        operations.resume("ann")


@mostly_sqlite("at")
def test_a_bundle_that_was_altered_meanwhile_goes_no_step_further(at: Bench) -> None:
    at.operations.start(plan("none"), "ann")
    at.traffic(400)
    at.bundles["new"] = "h2"
    with pytest.raises(UnknownName, match="has changed since"):
        at.operations.reconcile()
    assert at.operations.state().rollout.step == 0  # type: ignore[union-attr]


def test_evidence_is_the_same_for_every_process_and_after_a_restart(at: Bench) -> None:
    at.operations.start(plan(), "ann")
    at.traffic(150, empty={"champion": 0.1, "canary": 0.1})
    mine = at.operations.evidence(at.operations.state())
    at.traffic(150, empty={"champion": 0.1, "canary": 0.1})
    mine, others = at.operations.evidence(at.operations.state()), at.another().evidence(at.another().state())
    assert mine is not None
    assert others is not None
    assert mine[0] == others[0]


def test_the_history_cannot_be_changed(at: Bench) -> None:
    at.operations.start(plan(), "ann")
    for statement in (update(rollout_history).values(actor="nobody"), delete(rollout_history)):
        with pytest.raises(DatabaseError, match="only added to"), at.store.engine.begin() as connection:
            connection.execute(statement)


def promoted(at: Bench) -> None:
    at.operations.start(plan("none"), "ann")
    for sessions in (400, 200):
        at.traffic(sessions)
        at.operations.reconcile()
    assert at.operations.state().champion == "new@1"


def test_a_rollback_goes_to_what_served_before_whatever_the_command_line_was_set_to(at: Bench) -> None:
    served = at.another()  # another process, that knows the store alone
    assert served.state().champion == "old@1"
    promoted(at)
    assert served.state().previous == "old@1"
    assert served.roll_back("ann", "sounds odd").champion == "old@1"


@mostly_sqlite("at")
def test_a_second_rollback_brings_back_nothing(at: Bench) -> None:
    promoted(at)
    left = at.operations.roll_back("ann", "sounds odd")
    assert left.rollout is not None
    assert (left.rollout.status, left.came_from) == (Status.ROLLED_BACK, "new@1")
    assert left.rollout.reason == "it was promoted, and rolled back later: sounds odd"
    for operations in (at.operations, at.another()):
        for to in ("", "new@1", "old@1"):
            with pytest.raises(Conflict, match="start a rollout of it" if not to else "start a rollout for others"):
                operations.roll_back("bob", "sounds odd", to)
    assert at.operations.state() == left
    newest = at.operations.history()[0]
    assert (newest.action, newest.bundle, newest.reason) == ("rollback", "old@1", "sounds odd (from new@1)")
    shown = at.operations.shown(left)
    assert shown is not None
    assert shown["judgement"] == "promote", "with the evidence of its promotion"
    promoted(at)
    assert at.operations.state().came_from == "", "something new"
    assert at.operations.roll_back("ann", "again").champion == "old@1"


def test_of_many_who_roll_back_at_once_one_does(at: Bench) -> None:
    promoted(at)
    desks = [at.another() for _ in range(4)]
    start = threading.Barrier(len(desks))

    def work(operations: RolloutOperations) -> bool:
        start.wait()
        try:
            operations.roll_back("ann", "at once")
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(len(desks)) as pool:
        assert sorted(pool.map(work, desks)) == [False, False, False, True]
    assert at.operations.state().champion == "old@1"


@mostly_sqlite("at")
@pytest.mark.parametrize("by_evidence", [True, False])
def test_who_rolls_a_candidate_back_twice_leaves_the_champion_where_it_is(at: Bench, by_evidence: bool) -> None:
    at.operations.serve("third", "third@1")
    assert at.operations.state().previous == "old@1"
    at.operations.start(plan(), "ann")
    if by_evidence:
        at.traffic(300, empty={"champion": 0.05, "canary": 0.5})
        at.operations.reconcile()
    else:
        at.operations.roll_back("ann", "odd")
    with pytest.raises(Conflict, match="the last change was a rollback from new@1"):
        at.another().roll_back("bob", "odd")
    assert at.operations.state().champion == "third@1"
    state = at.another().roll_back("bob", "the champion too", "old@1")
    assert (state.champion, state.previous, state.came_from) == ("old@1", "", "third@1")
    with pytest.raises(Conflict):
        at.operations.roll_back("bob", "the champion too", "old@1")


@mostly_sqlite("at")
def test_a_restart_after_a_rollback_makes_room_for_no_second_one(at: Bench) -> None:
    promoted(at)
    at.operations.roll_back("ann", "odd")
    at.operations.serve("old", "old@1")
    with pytest.raises(Conflict, match="start a rollout"):
        at.operations.roll_back("ann", "odd")
    at.operations.serve("third", "third@1")
    assert at.operations.roll_back("ann", "odd").champion == "old@1", "another setting is something new"


def test_nothing_is_rolled_out_where_nobody_has_served(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'empty.db'}")
    operations = RolloutOperations(store, GUARDS, lambda name: Verified(f"{name}@1", "h"))
    assert operations.state().champion == ""
    with pytest.raises(Conflict, match="no server has served on this store yet"):
        operations.start(plan(), "ann")
    store.close()


def test_a_restart_moves_nobody_and_another_setting_moves_the_champion(at: Bench) -> None:
    promoted(at)
    revision = at.operations.state().revision
    assert at.operations.serve("old", "old@1").revision == revision, "a restart as it was"
    assert at.operations.serve("old", "old@2").champion == "new@1", "a card came for the setting's name: still promoted"
    state = at.operations.serve("third", "third@1")
    assert (state.champion, state.previous) == ("third@1", "new@1")
    assert at.operations.history()[0].reason == "a server started with SPEECHPIPE_BUNDLE=third"
    assert at.operations.roll_back("ann", "worse").champion == "new@1"


@mostly_sqlite("at")
def test_a_newer_version_of_what_the_setting_names_is_served_at_the_next_start(at: Bench) -> None:
    state = at.operations.serve("old", "old@2")
    assert (state.champion, state.previous) == ("old@2", "old@1")


@mostly_sqlite("at")
def test_a_rollout_is_not_voided_by_a_server_that_starts_with_another_setting(at: Bench) -> None:
    at.operations.start(plan(), "ann")
    assert at.operations.serve("third", "third@1") == at.operations.state()
    assert at.operations.state().champion == "old@1"
    at.operations.roll_back("ann", "no")
    assert at.operations.serve("third", "third@1").champion == "third@1"


def test_what_an_older_version_wrote_is_taken_up(at: Bench) -> None:
    promoted(at)
    document = at.operations.state().document()
    del document["setting"], document["resolved"], document["came_from"]
    with at.store.engine.begin() as connection:
        connection.execute(update(routes).values(document=document))
    assert at.operations.serve("old", "old@1").champion == "new@1"
    document = {
        **at.operations.state().document(),
        "champion": "",
        "previous": "",
        "setting": "",
    }  # nobody was promoted
    with at.store.engine.begin() as connection:
        connection.execute(update(routes).values(document=document))
    assert at.operations.serve("old", "old@1").champion == "old@1"


def test_a_store_that_was_emptied_is_told_who_serves(at: Bench) -> None:
    promoted(at)
    known = at.operations.state()
    with at.store.engine.begin() as connection:
        connection.execute(delete(routes))
    state = at.another().serve("old", "old@1", known)
    assert (state.champion, state.previous) == ("new@1", "old@1")


@mostly_sqlite("at")
def test_a_held_rollout_makes_room_for_the_next(at: Bench) -> None:
    at.bundles["better"] = "h2"
    at.operations.start(plan(), "speechpipe retrain")
    at.operations.hold("speechpipe retrain", "no better")
    steps = plan().document()["steps"]
    state = at.operations.start(read({"candidate": "better", "steps": steps}, GUARDS.rates), "ann")
    assert state.active is not None
    assert state.active.candidate == "better@1"
    assert [entry.action for entry in at.operations.history()][:4] == ["start", "rollback", "hold", "start"]
    assert "a rollout of better@1 starts" in at.operations.history()[1].reason
    at.operations.pause("ann", "lunch")
    with pytest.raises(Conflict, match="in progress"):
        at.operations.start(plan(), "bob")


def test_what_ended_is_shown_with_the_evidence_it_ended_with(at: Bench) -> None:
    at.operations.start(plan(), "ann")
    at.traffic(300, empty={"canary": 0.9})
    state = at.operations.reconcile()
    assert state.active is None
    shown = at.another().shown(state)
    assert shown is not None
    assert shown["judgement"] == "roll_back"
    assert {arm["arm"]: arm["sessions"] for arm in shown["arms"]} == dict(at.counted())


def test_a_store_that_is_gone_is_said() -> None:
    store = Store("sqlite:////proc/nowhere/r.db")
    operations = RolloutOperations(store, GUARDS, lambda _: Verified("a", "b"))
    with pytest.raises(StoreUnavailable):
        operations.state()


# ---- plans ----


@pytest.mark.parametrize("case", ["new", "assist", "replace"])
def test_the_plan_of_every_case_can_be_started_as_it_is(case: str) -> None:
    found = parse(template(case, "new", GUARDS.rates), GUARDS.rates)
    assert (found.case, found.candidate) == (case, "new")
    assert (found.approval == "steps") == (case == "assist")
    assert read(found.document(), GUARDS.rates) == found
    at_once = parse(template(case, "new", GUARDS.rates, side_by_side=False), GUARDS.rates)
    assert at_once.steps[-1].label == "blue_green"
    assert read(at_once.document(), GUARDS.rates) == at_once


CANARY = '[[steps]]\nmode = "canary"\nweight = 0.1\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("candidate = ", "not TOML"),
        ('candidate = "x"', "steps"),
        (CANARY, "candidate"),
        (f'candidate = "x"\ncolour = 1\n{CANARY}', "colour"),
        (f'candidate = "x"\nalpha = 2\n{CANARY}', "alpha"),
        (f'candidate = "x"\nalpha = nan\n{CANARY}', "alpha"),
        ('candidate = "x"\n[[steps]]\nmode = "hope"', "mode"),
        ('candidate = "x"\n[[steps]]\nmode = "canary"', "weight"),
        (f'candidate = "x"\n{CANARY}[[steps]]\nmode = "canary"\nweight = 0.05', "must not fall"),
        (f'candidate = "x"\n{CANARY}[[steps]]\nmode = "shadow"', "shadow steps must come before"),
        ('candidate = "x"\n[[steps]]\nmode = "shadow"', "cannot lead to a promotion"),
        (f'candidate = "x"\n[[steps]]\nmode = "blue_green"\n{CANARY}', "last step"),
        (f'candidate = "x"\n{CANARY}[guards]\nbeauty = 0.1', "beauty"),
        (f'candidate = "x"\n{CANARY}[guards]\nempty = 7', "empty"),
    ],
)
def test_a_plan_that_is_none_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse(text, GUARDS.rates)


@pytest.mark.parametrize(
    ("outcome", "measures", "guards"),
    [
        ("redo", {}, {"redo"}),
        ("switch_to_typing", {}, {"switch_to_typing"}),
        ("abandon", {}, {"abandon"}),
        ("correction", {}, {"correction"}),
        ("review", {"people.wer": 0.5}, {"wrong"}),
        ("review", {"people.wer": 0.1}, set()),
        ("rating", {"people.rating": 1.0}, set()),
    ],
)
def test_what_people_say_guards_a_rollout(outcome: str, measures: dict[str, float], guards: set[str]) -> None:
    record = Record("feedback", "f", "s", 0.0, "upload", "new", "1", outcome, measures=measures)
    assert {guard.name for guard in GUARDS.events if guard.happened(record, 5.0)} == guards
