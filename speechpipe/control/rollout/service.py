"""The rollout service of a running server: follows the route in the store, loads candidates, acts on the evidence.

Every server process on a store runs one. They agree because writes compare-and-swap on the route's revision, and
because evidence is computed from the same records. If the store is unavailable, routing does not change.
"""

import logging
import os
import socket
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

from speechpipe.cascade.catalog.factories import recognizer
from speechpipe.control.rollout import Mode, Status, route_cache
from speechpipe.control.rollout.operations import RolloutOperations, Verified
from speechpipe.control.rollout.routes import Rollout, RouteState
from speechpipe.control.rollout.shadow import ShadowService
from speechpipe.control.rollout.speech_guards import GUARDS
from speechpipe.errors import BadInput, Conflict, SpeechpipeError, StoreUnavailable
from speechpipe.foundation.background import BackgroundTask
from speechpipe.foundation.storage.database import STORE_ERRORS
from speechpipe.monitor.exposition import GaugeRow, by_cause
from speechpipe.serving.pools import Key
from speechpipe.serving.routing import RouteSnapshot
from speechpipe.serving.service import Service
from speechpipe.types import Bundle

POLL_S = 0.25
CONDUCT_S = 1.0
CARDS_WAIT_S, CARDS_LOOK_S = 60.0, 1.0
"""How long a candidate's cards and files may be missing after its rollout began, and how often they are looked for."""

MODELS_DIR = "SPEECHPIPE_MODELS_DIR"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Awaited:
    """A candidate whose cards or files are missing here. Times are of the monotonic clock, in seconds."""

    rollout: int
    since: float
    look_at: float
    why: str = ""


class RolloutService:
    """Create it with the service, call `restore` before the server is ready, then `start`.

    Two background tasks: `rollout` follows the route in the store and acts on the evidence; `warming` loads the bundles
    of the route, so that a rollback never waits for a candidate that is loading.
    """

    def __init__(self, service: Service) -> None:
        store = service.store
        assert store is not None, "rollouts need a store"
        self._service = service
        self.operations = RolloutOperations(store, GUARDS, lambda name: verified(service, name), service.clock)
        assert isinstance(service.mirror, ShadowService), "rollouts need a service for copies"
        self.shadowing = service.mirror
        self._lock = threading.RLock()  # `operations` is used by the tasks and by requests
        self._cached = service.settings.state_dir / "route.json"
        self._setting = (service.settings.bundle, service.engine.champion.id)
        self._registered = False  # whether this server's setting is in the store
        self._state = RouteState(champion=service.engine.champion.id)
        self._revision = -1
        self._warmed: dict[str, Bundle] = {}  # loaded bundles by id
        self._broken: tuple[int, str] | None = None  # id of a rollout that cannot run here, and why
        self._awaited: Awaited | None = None
        self._name = f"{socket.gethostname()}:{service.settings.port or f'process {os.getpid()}'}"
        self._conducted_at = 0.0
        self._needed: list[Key] = []
        self._unread = ""  # why the route could not be read at start-up
        self._following = BackgroundTask("rollout", self._follow, every_s=POLL_S)
        self._warming = BackgroundTask("warming", self.prepare, every_s=POLL_S)
        service.tasks.add(self._following, self._warming)
        service.exposition.add_gauges(self._gauges())

    # ---- lifetime ----

    def restore(self) -> None:
        """Restore the route, and load its champion before returning.

        Raises:
            SpeechpipeError: the champion cannot be loaded.
        """
        try:
            with self._lock:
                self._register()
        except (SpeechpipeError, *STORE_ERRORS) as error:
            self._unread = str(error)
            self._state = route_cache.read(self._cached, GUARDS.rates) or self._state
            log.warning("the route cannot be read (%s); continuing with %s", error, self._state.champion)
        bundle = self._bundle(self._state.champion)
        if bundle is not None and bundle != self._service.engine.champion:
            log.warning(
                "the champion in the store is %s; SPEECHPIPE_BUNDLE=%s does not apply", bundle.id, self._setting[0]
            )
            self._warm(bundle)
            self._service.engine.router.route_by(RouteSnapshot(bundle))
        self._apply()

    def start(self) -> None:
        """Start the background tasks."""
        self._following.start()
        self._warming.start()

    def close(self) -> None:
        """Stop the background tasks; the route does not change."""
        self._following.close()
        self._warming.close()
        self.shadowing.end_all()

    def wake(self) -> None:
        """Check the route at once, after it was changed by this process."""
        self._following.wake()

    # ---- the rollout task ----

    def _follow(self) -> None:
        try:
            self.tick()
        except Conflict:
            return  # another process or operator was faster: the next tick reads the result
        self._service.engine.pools.retire(self._needed)

    def _register(self) -> None:
        """Register this server's setting in the store, and use the route it returns."""
        known = self._state if self._revision >= 0 else route_cache.read(self._cached, GUARDS.rates)
        state = self.operations.serve(*self._setting, known)
        if state.setting != self._setting[0]:
            log.warning("SPEECHPIPE_BUNDLE=%s does not apply while a rollout is in progress", self._setting[0])
        self._take(state)
        self._registered = True
        self._unread = ""

    def tick(self) -> None:
        """Follow the route, and act on the evidence every `CONDUCT_S`.

        Raises:
            Conflict: another process was faster.
            SpeechpipeError, SQLAlchemyError, OSError: the store cannot be used.
        """
        with self._lock:
            if not self._registered:
                self._register()
            elif self.operations.archive.revision() != self._revision:
                self._take(self.operations.state())
            now = time.monotonic()
            if self._state.active is not None and now - self._conducted_at >= CONDUCT_S:
                self._conducted_at = now
                if self._broken is not None and self._broken[0] == self._state.active.id:
                    self._take(self.operations.fail(self._broken[1]))
                else:
                    self._take(self.operations.reconcile())

    def _take(self, state: RouteState) -> None:
        if state.revision == self._revision:
            return
        if not state.champion:  # the store was emptied while this server runs: register again
            self._registered = False
            raise StoreUnavailable("the store has no champion; this server registers its own at the next tick")
        self._tell(state)
        self._state, self._revision = state, state.revision
        route_cache.write(self._cached, state)
        self._apply()

    def _tell(self, state: RouteState) -> None:
        """Log changes of the route, which may have been automatic."""
        before, rollout = self._state, state.rollout
        if self._revision >= 0 and state.champion != before.champion:
            log.warning("the champion is %s, it was %s", state.champion, before.champion)
        if rollout is None or (self._revision < 0 and state.active is None):
            return  # at the start, a rollout that has ended is no news
        old = before.rollout
        if old is None or (old.id, old.step, old.status) != (rollout.id, rollout.step, rollout.status):
            where = f"{rollout.status.value}, {rollout.current.label}"
            why = f": {rollout.reason}" if rollout.reason else ""
            log.warning("rollout %d of %s is %s%s", rollout.id, rollout.candidate, where, why)
            if rollout.status is Status.WAITING:
                log.warning("rollout %d waits for approval: speechpipe rollout approve, or rollback", rollout.id)

    def _apply(self) -> None:
        """Route by the state; a candidate that is not loaded here gets no sessions until it is."""
        state, service = self._state, self._service
        champion = self._bundle(state.champion) or service.engine.champion
        rollout = state.active
        candidate = self._warmed.get(rollout.candidate) if rollout is not None else None
        if rollout is None or rollout.current.mode is not Mode.SHADOW:
            shadow = None
        else:
            shadow, candidate = candidate, None
        service.engine.router.route_by(RouteSnapshot(champion, rollout, candidate, shadow))
        names = [champion.id, state.previous, *([rollout.candidate] if rollout is not None else [])]
        needed = [bundle for name in names if (bundle := self._bundle(name)) is not None]
        self._needed = [recognizer(bundle.asr).key for bundle in needed]
        keep = {bundle.id for bundle in needed}
        self._warmed = {name: bundle for name, bundle in self._warmed.items() if name in keep}
        self._warming.wake()

    # ---- the warming task ----

    def prepare(self) -> None:
        """Load the bundles of the route that are not loaded, and begin or end shadow.

        Raises:
            SpeechpipeError: the champion cannot be loaded.
            Exception: unexpected errors while loading a candidate; the task tries again after a pause.
        """
        state, snapshot = self._state, self._service.engine.router.snapshot
        rollout = state.active
        if not self._service.engine.pools.has(recognizer(snapshot.champion.asr)):
            self._warm(snapshot.champion)
        if rollout is None or rollout.current.mode is not Mode.SHADOW:
            if self.shadowing.candidate is not None:
                self.shadowing.end_all()
            done = rollout is None or rollout.candidate in self._warmed
        else:
            hears = self.shadowing.candidate
            done = hears is not None and hears == self._warmed.get(rollout.candidate)
        if rollout is None or done or (self._broken is not None and self._broken[0] == rollout.id):
            return
        if self._warm_candidate(rollout, snapshot.champion):
            with self._lock:
                self._apply()

    def _warm_candidate(self, rollout: Rollout, champion: Bundle) -> bool:
        """Return whether the candidate is loaded now; if it cannot be, `_broken` says why."""
        try:
            bundle = self._here(rollout)
            if bundle is None:
                return False
            self._warm(bundle)
            if rollout.current.mode is Mode.SHADOW:
                self.shadowing.begin(champion, bundle)
            return True
        except SpeechpipeError as error:
            if not self._warming.closing:
                log.error("the candidate %s cannot run: %s", rollout.candidate, error)
                self._broken = (rollout.id, f"the candidate cannot run on {self._name}: {error.message}")
                self.wake()
            return False

    def _here(self, rollout: Rollout) -> Bundle | None:
        """Return the candidate as it was when the rollout began; None while its cards and files may still arrive.

        Raises:
            BadInput: they have not arrived within `CARDS_WAIT_S`.
        """
        catalogue, now = self._service.engine.catalogue, time.monotonic()
        awaited = self._awaited
        if awaited is None or awaited.rollout != rollout.id:
            awaited = Awaited(rollout.id, now, now)
        elif now < awaited.look_at:
            return None
        try:
            catalogue.reload()
            bundle = catalogue.bundle(rollout.candidate)
            problems = list(catalogue.problems(bundle))
            if not problems and catalogue.digest(bundle) == rollout.candidate_hash:
                self._awaited = None
                return bundle
            why = problems[0] if problems else "it has changed since the rollout began: its hash differs"
        except SpeechpipeError as error:
            why = error.message
        why = f"{rollout.candidate} is not in the models folder of this server as it was when the rollout began: {why}"
        if now - awaited.since >= CARDS_WAIT_S:
            raise BadInput(f"{why}. Servers on one store must share that folder, or have the same files ({MODELS_DIR})")
        if not awaited.why:
            log.warning("%s. Waiting for it, %g s at most", why, CARDS_WAIT_S)
        self._awaited = replace(awaited, look_at=now + CARDS_LOOK_S, why=why)
        return None

    def _warm(self, bundle: Bundle) -> None:
        self._service.engine.vad(bundle.vad)
        self._service.engine.pools.warm(recognizer(bundle.asr))
        self._warmed[bundle.id] = bundle

    def _bundle(self, name: str) -> Bundle | None:
        if not name:
            return None
        catalogue = self._service.engine.catalogue
        try:
            return catalogue.bundle(name)
        except SpeechpipeError:
            pass
        try:
            catalogue.reload()  # its card may have arrived since
            return catalogue.bundle(name)
        except SpeechpipeError as error:
            log.error("%s is on the route and has no card here: %s", name, error)
            return None

    # ---- state ----

    @property
    def state(self) -> RouteState:
        """The route as this process follows it."""
        return self._state

    @property
    def failure(self) -> str:
        """Why the route cannot be followed or its bundles cannot be loaded at present; empty if they can."""
        failing = [task.last_failure for task in (self._following.status, self._warming.status) if task.failing]
        found = [self._unread, *failing]
        if self._state.champion != self._service.engine.champion.id:
            found.append(f"{self._state.champion} has no card here, {self._service.engine.champion.id} answers instead")
        return next((reason for reason in found if reason), "")

    def _loading(self) -> str:
        """The candidate that gets no sessions or copies because it is not loaded yet; empty if there is none."""
        rollout, snapshot = self._state.active, self._service.engine.router.snapshot
        if rollout is None or snapshot.candidate is not None:
            return ""
        hears = snapshot.shadow is not None and self.shadowing.candidate == snapshot.shadow
        return "" if hears else rollout.candidate

    def facts(self) -> dict[str, Any]:
        """Return this process's own state, beyond what is in the store, as JSON data."""
        snapshot = self._service.engine.router.snapshot
        hears = snapshot.shadow is not None and self.shadowing.candidate == snapshot.shadow
        return {
            "warm": sorted({snapshot.champion.id, *self._warmed}),
            "ready": snapshot.candidate is not None or hears,
            "failure": self.failure,
            "loading": (loading := self._loading()),
            "missing": awaited.why if loading and (awaited := self._awaited) is not None else "",
            "shadow": dict(self.shadowing.counts) | {"waiting_s": round(self.shadowing.waiting_s, 1)},
            "routing": dict(self._service.engine.router.counts),
        }

    def locked(self) -> threading.RLock:
        """Return the lock that callers must hold while they use `operations`."""
        return self._lock

    def _gauges(self) -> tuple[GaugeRow, ...]:
        def weight() -> list[tuple[tuple[str, ...], float]]:
            active = self._state.active
            return [((), active.weight if active is not None else 0.0)]

        shadowed, excepted = self.shadowing.counts, self._service.engine.router.counts
        return (
            GaugeRow("rollout_weight", "Share of new sessions that the candidate answers.", weight),
            by_cause("shadow_sessions_total", "Sessions compared in shadow, or dropped by cause.", shadowed),
            by_cause("rollout_exceptions_total", "Sessions not routed as the plan says, by cause.", excepted),
        )


def verified(service: Service, name: str) -> Verified:
    """Return a bundle's id and hash after checking all its files.

    Raises:
        UnknownName: there is no such bundle.
        BadInput: a file is missing or does not match its card.
    """
    service.engine.catalogue.reload()
    bundle = service.engine.catalogue.bundle(name)
    if problems := service.engine.catalogue.problems(bundle):
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise BadInput(f"{bundle.id} is not verified: {problems[0]}{more}", cause="bundle_unverified")
    return Verified(bundle.id, service.engine.catalogue.digest(bundle))
