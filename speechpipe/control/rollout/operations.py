"""Rollout operations on a store: start, approve, pause, promote, roll back. No server is needed."""

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
from speechpipe.foundation.storage.store import Store
from speechpipe.foundation.storage.swap import ChangedMeanwhile

AUTOMATIC = "speechpipe"
"""The actor of automatic changes."""

READ = 2_000
BASELINE_RECORDS = 12_000


@dataclass(frozen=True)
class Verified:
    """A bundle whose files are present and match their cards."""

    id: str
    hash: str


Verify = Callable[[str], Verified]
"""Verifies a bundle by name; raises SpeechpipeError if it is unknown, incomplete or altered."""


class RolloutOperations:
    """Not thread-safe. Every method raises `StoreUnavailable` if the store cannot be used."""

    def __init__(
        self,
        store: Store,
        guard_set: GuardSet,
        verify: Verify,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Use `store`, which alone has the state of the route."""
        self._store = store
        self._guard_set = guard_set
        self._verify = verify
        self._clock = clock
        self.archive = RolloutArchive(lambda: store.engine, guard_set.rates)
        self._arm_counts: ArmCounts | None = None
        self._counted: tuple[int, int, float] = (0, 0, 0.0)  # rollout, step and its start that the counts belong to
        self._seq = 0

    # ---- reading ----

    def state(self) -> RouteState:
        """Return the route; its champion is empty if no server has used this store yet."""
        with translating_store_errors():
            return self.archive.state()

    def history(self, most: int = 200) -> list[Entry]:
        """Return the latest changes, newest first."""
        with translating_store_errors():
            return self.archive.history(most)

    def evidence(self, state: RouteState) -> tuple[Evidence, ArmCounts] | None:
        """Return the evidence of the running step; None without one. Continues from the last record it has read."""
        rollout = state.active
        if rollout is None:
            return None
        known = self._arm_counts
        of = (rollout.id, rollout.step, rollout.step_at)  # ids start again in a replaced store
        if known is None or self._counted != of:
            plan, self._counted = rollout.plan, of
            known = self._arm_counts = ArmCounts(
                self._guard_set, rollout.id, rollout.step, plan.slow_s, rollout.current.harm
            )
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
        """Return the evidence as JSON data, of the running step or the end of the last rollout; None without one."""
        if state.rollout is None:
            return None
        if (found := self.evidence(state)) is not None:
            return evidence_document(state.rollout, *found)
        mine = (entry.evidence for entry in self.history() if entry.rollout == state.rollout.id)
        return next((evidence for evidence in mine if "judgement" in evidence), None)

    # ---- servers ----

    def serve(self, setting: str, bundle: str, known: RouteState | None = None) -> RouteState:
        """Register what a starting server serves, and return the route for it to follow.

        The champion in the store applies. `bundle` replaces it in a new store, if the setting differs from that of the
        server that started last, or if the champion is still what that setting resolved to. During a rollout it stays.

        Args:
            setting: `SPEECHPIPE_BUNDLE` as written.
            bundle: the name@version that it resolves to on this server.
            known: this server's copy of the route, used if the store has been emptied.

        Raises:
            Conflict: the route was changed at the same time; try again.
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
        """Start a rollout. A held one (`hold`) is ended.

        Raises:
            Conflict: one is in progress, the candidate is the champion, or no server has used this store yet.
            UnknownName, BadInput: the candidate is unknown, incomplete or altered.
        """
        candidate = self._verify(plan.candidate)
        state = self.state()
        if not state.champion:
            raise Conflict(
                "no server has served on this store yet: start one (speechpipe serve); its bundle is the champion"
            )
        if (active := state.active) is not None and active.held:
            reason = f"it was held, and a rollout of {candidate.id} starts"
            state = self._with(state, active, Status.ROLLED_BACK, by, "rollback", reason)
        elif active is not None:
            raise Conflict(f"rollout {active.id} of {active.candidate} is in progress: promote it or roll back first")
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
        """Approve the step forward that the evidence supports; after the last step, the promotion.

        Raises:
            Conflict: no step waits for approval.
        """
        state, rollout = self._active()
        if rollout.status is not Status.WAITING:
            raise Conflict(f"no step waits for approval: {rollout.current.label} is {rollout.status.value}")
        return self._forward(state, rollout, by, reason or "approved", "approve")

    def promote(self, by: str, reason: str = "") -> RouteState:
        """Make the candidate the champion.

        Raises:
            Conflict: it is not the last step, or its evidence is incomplete. This cannot be forced.
        """
        state, rollout = self._active()
        found = self.evidence(state)
        assert found is not None
        evidence = found[0]
        if not rollout.is_last_step:
            raise Conflict(f"{rollout.current.label} is not the last of {len(rollout.plan.steps)} steps")
        if evidence.judgement is not Judgement.PROMOTE:
            more = "" if evidence.more is None else f"; about {evidence.more} more sessions"
            raise Conflict(f"the evidence does not support a promotion: {evidence.reason}{more}")
        return self._forward(state, rollout, by, reason or evidence.reason, "promote")

    def pause(self, by: str, reason: str = "") -> RouteState:
        """Stop going forward. Guards still roll back, and routing does not change.

        Raises:
            Conflict: it is paused already.
        """
        state, rollout = self._active()
        if rollout.status is Status.PAUSED:
            raise Conflict("the rollout is paused already")
        return self._with(state, rollout, Status.PAUSED, by, "pause", reason)

    def hold(self, by: str, reason: str) -> RouteState:
        """Pause a rollout in such a way that starting another one ends it.

        Raises:
            Conflict: it is paused already.
        """
        state, rollout = self._active()
        if rollout.status is Status.PAUSED:
            raise Conflict("the rollout is paused already")
        return self._with(state, replace(rollout, held=True), Status.PAUSED, by, "hold", reason)

    def resume(self, by: str, reason: str = "") -> RouteState:
        """Continue a paused rollout.

        Raises:
            Conflict: it is not paused.
        """
        state, rollout = self._active()
        if rollout.status is not Status.PAUSED:
            raise Conflict("the rollout is not paused")
        return self._with(state, replace(rollout, held=False), Status.RUNNING, by, "resume", reason)

    def roll_back(self, by: str, reason: str, to: str = "") -> RouteState:
        """Send all new sessions to the champion; without a rollout in progress, to the previous champion.

        A second rollback with no rollout started in between is refused, so that two requests go back only once.

        Args:
            by: the operator.
            reason: why.
            to: the previous champion, to confirm a second rollback; else empty.

        Raises:
            Conflict: there is nothing to go back to, the last change was a rollback, or `to` is another bundle.
        """
        state = self.state()
        rollout = state.active
        goal = state.previous if rollout is None else state.champion
        if to and to != goal:
            raise Conflict(f"a rollback goes to {goal or 'nothing'} now, not to {to}; start a rollout for others")
        if rollout is not None:
            return self._with(state, rollout, Status.ROLLED_BACK, by, "rollback", reason)
        if state.came_from and not to:
            more = f" (`to`: {state.previous} confirms going back to the champion before it)" if state.previous else ""
            raise Conflict(
                f"{state.champion} is the champion already: the last change was a rollback from {state.came_from}, and "
                f"no rollout was started since; for {state.came_from} start a rollout of it{more}"
            )
        if not state.previous:
            raise Conflict(
                "there is nothing to roll back to: no rollout is in progress, and there is no previous champion"
            )
        left, last = state.champion, state.rollout
        if last is not None and last.status is Status.PROMOTED and last.candidate == left:
            last = replace(last, status=Status.ROLLED_BACK, reason=f"it was promoted, and rolled back later: {reason}")
        back = state.changed(champion=state.previous, previous="", came_from=left, rollout=last)
        return self._save(back, by, "rollback", f"{reason} (from {left})", state.previous, {})

    # ---- automatic ----

    def reconcile(self) -> RouteState:
        """Act on the evidence: roll back, go forward, or ask for approval. Returns the new state.

        Raises:
            Conflict: the route was changed at the same time; try again.
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
        """Roll back because the candidate cannot run; `reason` says why."""
        state = self.state()
        if (rollout := state.active) is None:
            return state
        return self._with(state, rollout, Status.ROLLED_BACK, AUTOMATIC, "rollback", reason)

    # ---- helpers ----

    def _active(self) -> tuple[RouteState, Rollout]:
        state = self.state()
        if state.active is None:
            raise Conflict("no rollout is in progress")
        return state, state.active

    def _forward(self, state: RouteState, rollout: Rollout, by: str, reason: str, action: str) -> RouteState:
        verified = self._verify(rollout.plan.candidate)
        if (verified.id, verified.hash) != (rollout.candidate, rollout.candidate_hash):
            raise UnknownName(
                f"{rollout.candidate} has changed since the rollout started ({verified.id}, {verified.hash[:12]} "
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
                raise Conflict("the rollout was changed at the same time: look at its status and try again") from error
        return state

    def _baseline(self, rollout: Rollout) -> dict[str, tuple[int, int]]:
        """Return the champion's counts before the rollout, if a step needs them."""
        if not any(step.mode is Mode.BLUE_GREEN for step in rollout.plan.steps):
            return {}
        name, _, version = rollout.champion.partition("@")
        records = self._store.latest(BASELINE_RECORDS, 0.0, rollout.started_at + 1, name, version)
        return baseline(self._guard_set, records, rollout.plan.slow_s)
