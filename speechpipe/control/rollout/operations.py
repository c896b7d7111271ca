"""What is done with a rollout, by people or by evidence: start, approve, pause, promote, roll back.

Needs a store, no server.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from speechpipe.control.rollout import Judgement, Mode, Status
from speechpipe.control.rollout.analysis import Evidence, judge
from speechpipe.control.rollout.arm_counts import ArmCounts, baseline
from speechpipe.control.rollout.documents import evidence_document
from speechpipe.control.rollout.guards import GuardSet
from speechpipe.control.rollout.plan import Plan
from speechpipe.control.rollout.repository import Entry, RolloutArchive
from speechpipe.control.rollout.routes import Rollout, RouteState
from speechpipe.errors import Conflict, UnknownName
from speechpipe.foundation.storage.database import translating_store_errors
from speechpipe.foundation.storage.swap import ChangedMeanwhile
from speechpipe.foundation.storage.writer import Store

AUTOMATIC = "speechpipe"
"""The actor of what nobody did by hand."""

READ = 2_000
BASELINE_RECORDS = 12_000


@dataclass(frozen=True)
class Verified:
    """A bundle that was looked at: all its files are there and are what the cards say."""

    id: str
    hash: str


Verify = Callable[[str], Verified]
"""From a bundle's name; raises SpeechpipeError if it is unknown, incomplete or altered."""


class RolloutOperations:
    """Every method raises `StoreUnavailable` if the store cannot be used. One thread at a time."""

    def __init__(
        self,
        store: Store,
        book: GuardSet,
        verify: Verify,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Work on `store`: who serves stands there and nowhere else."""
        self._store = store
        self._book = book
        self._verify = verify
        self._clock = clock
        self.archive = RolloutArchive(lambda: store.engine, book.rates)
        self._ledger: ArmCounts | None = None
        self._counted: tuple[int, int, float] = (0, 0, 0.0)  # id, step and its begin of what the ledger counts
        self._seq = 0

    # ---- reading ----

    def state(self) -> RouteState:
        """Return who answers; the champion is empty while no server has served on this store."""
        with translating_store_errors():
            return self.archive.state()

    def history(self, most: int = 200) -> list[Entry]:
        """Return what was done, the newest first."""
        with translating_store_errors():
            return self.archive.history(most)

    def evidence(self, state: RouteState) -> tuple[Evidence, ArmCounts] | None:
        """Return the evidence of the step that runs; None if none does. Reads on where the last call ended."""
        rollout = state.active
        if rollout is None:
            return None
        known = self._ledger
        of = (rollout.id, rollout.step, rollout.step_at)  # numbers begin anew in a store that was replaced
        if known is None or self._counted != of:
            plan, self._counted = rollout.plan, of
            known = self._ledger = ArmCounts(self._book, rollout.id, rollout.step, plan.slow_s, rollout.current.harm)
            self._seq = rollout.step_seq
        with translating_store_errors():
            while batch := self._store.after(self._seq, READ):
                for seq, record in batch:
                    known.take(record)
                    self._seq = seq
                if len(batch) < READ:
                    break
        return judge(rollout.plan, rollout.step, known, rollout.baseline), known

    def shown(self, state: RouteState) -> Mapping[str, Any] | None:
        """Return the evidence as data: of the step that runs, or with which the last rollout ended; None of none."""
        if state.rollout is None:
            return None
        if (found := self.evidence(state)) is not None:
            return evidence_document(state.rollout, *found)
        mine = (entry.evidence for entry in self.history() if entry.rollout == state.rollout.id)
        return next((evidence for evidence in mine if "judgement" in evidence), None)

    # ---- servers ----

    def serve(self, setting: str, bundle: str, known: RouteState | None = None) -> RouteState:
        """Write down what a server that starts serves, and return the route that it is to follow.

        The champion is what the store says. It becomes `bundle` on a new store, when the setting is another than that
        of the server that started last, and when it never was anything but what the setting means. While a rollout is
        under way it stays.

        Args:
            setting: `SPEECHPIPE_BUNDLE` as it is written.
            bundle: name@version that it means here.
            known: the route as this server knows it, for a store that was emptied: who serves does not change by that.

        Raises:
            Conflict: somebody else changed the route in this moment; look again.
        """
        state = self.state()
        if state.champion and state.active is not None:
            return state
        if not state.champion and known is not None and known.champion:
            names = {
                name: getattr(known, name) for name in ("champion", "previous", "setting", "resolved", "came_from")
            }
            state = replace(state, **names)
            unknown = True
        else:
            unknown = not state.champion
        other = bool(state.setting) and setting != state.setting
        unmoved = state.champion == state.resolved
        champion = bundle if not state.champion or other or unmoved else state.champion
        if not unknown and (champion, setting, bundle) == (state.champion, state.setting, state.resolved):
            return state
        moved = state.changed(champion=champion, setting=setting, resolved=bundle)
        if state.champion and state.champion != champion:
            moved = replace(moved, previous=state.champion, came_from="")
        reason = f"a server started with SPEECHPIPE_BUNDLE={setting}"
        return self._save(moved, AUTOMATIC, "serve", reason, champion, {})

    # ---- people ----

    def start(self, plan: Plan, by: str) -> RouteState:
        """Begin a rollout; one that is held (`hold`) ends.

        Raises:
            Conflict: one is under way, or no server has served yet.
            UnknownName, BadInput: the candidate is unknown, incomplete or altered, or is the champion.
        """
        candidate = self._verify(plan.candidate)
        state = self.state()
        if not state.champion:
            raise Conflict(
                "no server has served on this store yet: start one (speechpipe serve); its bundle is the champion"
            )
        if (active := state.active) is not None and active.held:
            reason = f"it was held, and the rollout of {candidate.id} begins"
            state = self._with(state, active, Status.ROLLED_BACK, by, "rollback", reason)
        elif active is not None:
            raise Conflict(f"rollout {active.id} of {active.candidate} is under way: promote it or roll it back first")
        if candidate.id == state.champion:
            raise Conflict(f"{candidate.id} is the champion already")
        now = self._clock()
        with translating_store_errors():
            rollout = Rollout(
                id=self.archive.next_id(),
                plan=plan,
                candidate=candidate.id,
                candidate_hash=candidate.hash,
                champion=state.champion,
                salt=secrets.token_hex(16),
                by=by,
                started_at=now,
                step_at=now,
                step_seq=self._store.last_seq(),
            )
            rollout = replace(rollout, baseline=self._baseline(rollout))
        reason = f"case {plan.case}: {', '.join(step.label for step in plan.steps)}"
        begun = state.changed(rollout=rollout, came_from="")
        return self._save(begun, by, "start", reason, candidate.id, {"plan": plan.document()})

    def approve(self, by: str, reason: str = "") -> RouteState:
        """Agree to the step forward that the evidence allows; after the last step that is the promotion.

        Raises:
            Conflict: nothing waits for an approval.
        """
        state, rollout = self._active()
        if rollout.status is not Status.WAITING:
            raise Conflict(f"nothing waits for an approval: {rollout.current.label} is {rollout.status.value}")
        return self._forward(state, rollout, by, reason or "approved", "approve")

    def promote(self, by: str, reason: str = "") -> RouteState:
        """Make the candidate the champion.

        Raises:
            Conflict: it is not the last step, or its evidence is not in. There is no way around the evidence.
        """
        state, rollout = self._active()
        found = self.evidence(state)
        assert found is not None
        evidence = found[0]
        if not rollout.is_last_step:
            raise Conflict(f"{rollout.current.label} is not the last of {len(rollout.plan.steps)} steps")
        if evidence.judgement is not Judgement.PROMOTE:
            more = "" if evidence.more is None else f"; about {evidence.more} more sessions"
            raise Conflict(f"there is no evidence for a promotion: {evidence.reason}{more}")
        return self._forward(state, rollout, by, reason or evidence.reason, "promote")

    def pause(self, by: str, reason: str = "") -> RouteState:
        """Stop going forward; guards still roll back, sessions go where they went.

        Raises:
            Conflict: it is paused already.
        """
        state, rollout = self._active()
        if rollout.status is Status.PAUSED:
            raise Conflict("it is paused already")
        return self._with(state, rollout, Status.PAUSED, by, "pause", reason)

    def hold(self, by: str, reason: str) -> RouteState:
        """Pause a rollout that nobody needs to end: the next one that is started takes its place.

        Raises:
            Conflict: it is paused already.
        """
        state, rollout = self._active()
        if rollout.status is Status.PAUSED:
            raise Conflict("it is paused already")
        return self._with(state, replace(rollout, held=True), Status.PAUSED, by, "hold", reason)

    def resume(self, by: str, reason: str = "") -> RouteState:
        """Go on.

        Raises:
            Conflict: it is not paused.
        """
        state, rollout = self._active()
        if rollout.status is not Status.PAUSED:
            raise Conflict("it is not paused")
        return self._with(state, replace(rollout, held=False), Status.RUNNING, by, "resume", reason)

    def roll_back(self, by: str, reason: str, to: str = "") -> RouteState:
        """Send all new sessions to the champion; with no rollout under way, to the champion before this one.

        Done again with nothing new in between it is refused, so that two people, or one who asks twice, go back once.

        Args:
            by: who asks.
            reason: why.
            to: the champion before this one, where somebody means it although a rollback came last; else empty.

        Raises:
            Conflict: there is nothing to go back to, the last change was a rollback already, or `to` is another bundle.
        """
        state = self.state()
        rollout = state.active
        goal = state.previous if rollout is None else state.champion
        if to and to != goal:
            raise Conflict(f"a rollback goes to {goal or 'nothing'} now, not to {to}; a rollout can go to any bundle")
        if rollout is not None:
            return self._with(state, rollout, Status.ROLLED_BACK, by, "rollback", reason)
        if state.came_from and not to:
            more = f" (`to`: {state.previous}, the champion before it, is the next one back)" if state.previous else ""
            raise Conflict(
                f"{state.champion} answers already: the last change went back to it from {state.came_from}, and "
                f"nothing was started since; for {state.came_from} start a rollout of it{more}"
            )
        if not state.previous:
            raise Conflict(
                "there is nothing to roll back to: no rollout is under way, and there was no champion before"
            )
        left, last = state.champion, state.rollout
        if last is not None and last.status is Status.PROMOTED and last.candidate == left:
            last = replace(last, status=Status.ROLLED_BACK, reason=f"it was promoted, and rolled back later: {reason}")
        back = state.changed(champion=state.previous, previous="", came_from=left, rollout=last)
        return self._save(back, by, "rollback", f"{reason} (from {left})", state.previous, {})

    # ---- the conductor ----

    def reconcile(self) -> RouteState:
        """Do what the evidence says: roll back, go forward, or ask. Returns the state afterwards.

        Raises:
            Conflict: somebody else changed the route in this moment; look again.
        """
        state = self.state()
        rollout = state.active
        found = self.evidence(state) if rollout is not None else None
        if rollout is None or found is None:
            return state
        evidence = found[0]
        if evidence.judgement is Judgement.ROLL_BACK:
            return self._with(state, rollout, Status.ROLLED_BACK, AUTOMATIC, "rollback", evidence.reason)
        if evidence.judgement is not Judgement.PROMOTE or rollout.status is not Status.RUNNING:
            return state
        asks = rollout.plan.approval == "steps" or (rollout.plan.approval == "promotion" and rollout.is_last_step)
        if asks:
            return self._with(state, rollout, Status.WAITING, AUTOMATIC, "ask", evidence.reason)
        return self._forward(
            state, rollout, AUTOMATIC, evidence.reason, "promote" if rollout.is_last_step else "advance"
        )

    def fail(self, reason: str) -> RouteState:
        """Roll back because the candidate cannot run."""
        state = self.state()
        if (rollout := state.active) is None:
            return state
        return self._with(state, rollout, Status.ROLLED_BACK, AUTOMATIC, "rollback", reason)

    # ---- within ----

    def _active(self) -> tuple[RouteState, Rollout]:
        state = self.state()
        if state.active is None:
            raise Conflict("no rollout is under way")
        return state, state.active

    def _forward(self, state: RouteState, rollout: Rollout, by: str, reason: str, action: str) -> RouteState:
        verified = self._verify(rollout.plan.candidate)
        if (verified.id, verified.hash) != (rollout.candidate, rollout.candidate_hash):
            raise UnknownName(
                f"{rollout.candidate} is not what it was when the rollout began ({verified.id}, {verified.hash[:12]} "
                f"instead of {rollout.candidate_hash[:12]}): roll back and start again",
                cause="bundle_altered",
            )
        if rollout.is_last_step:
            done = replace(rollout, status=Status.PROMOTED, reason=reason)
            moved = state.changed(champion=rollout.candidate, previous=rollout.champion, rollout=done)
            return self._save(moved, by, "promote", reason, rollout.candidate, self.shown(state) or {})
        with translating_store_errors():
            seq = self._store.last_seq()
        step = replace(
            rollout, step=rollout.step + 1, step_at=self._clock(), step_seq=seq, status=Status.RUNNING, reason=reason
        )
        text = f"{reason}; now {step.current.label}"
        return self._save(state.changed(rollout=step), by, action, text, rollout.candidate, self.shown(state) or {})

    def _with(
        self, state: RouteState, rollout: Rollout, status: Status, by: str, action: str, reason: str
    ) -> RouteState:
        changed = state.changed(rollout=replace(rollout, status=status, reason=reason))
        if status is Status.ROLLED_BACK:
            changed = replace(changed, came_from=rollout.candidate)
        return self._save(changed, by, action, reason, rollout.candidate, self.shown(state) or {})

    def _save(
        self, state: RouteState, by: str, action: str, reason: str, bundle: str, evidence: Mapping[str, Any]
    ) -> RouteState:
        with translating_store_errors():
            try:
                self.archive.save(state, Entry(self._clock(), by, action, reason, bundle, evidence))
            except ChangedMeanwhile as error:
                raise Conflict(
                    "somebody else has just changed this rollout: look at its status and try again"
                ) from error
        return state

    def _baseline(self, rollout: Rollout) -> dict[str, tuple[int, int]]:
        """Count what the champion did before, if a step will need it."""
        if not any(step.mode is Mode.BLUE_GREEN for step in rollout.plan.steps):
            return {}
        name, _, version = rollout.champion.partition("@")
        records = self._store.latest(BASELINE_RECORDS, 0.0, rollout.started_at + 1, name, version)
        return baseline(self._book, records, rollout.plan.slow_s)
