"""Rollouts on a running server: follows the route in the store, warms candidates, acts on the evidence.

Every server process on a store runs one. They agree because a change is written only onto the revision that it was made
from, and because evidence is read off the same records. If the store is lost, sessions go where they went.
"""

import logging
import threading
import time
from typing import Any

from speechpipe.errors import BadInput, InUse, SpeechpipeError
from speechpipe.fleet import Key
from speechpipe.monitor.database import STORE_ERRORS
from speechpipe.monitor.exposition import GaugeRow, by_cause
from speechpipe.recipes import recognizer
from speechpipe.rollout import Mode, route_file
from speechpipe.rollout.desk import RolloutDesk, Verified
from speechpipe.rollout.state import Rollout, RouteState
from speechpipe.rollout_guards import GUARDS
from speechpipe.routing import Lane
from speechpipe.service import Service
from speechpipe.shadowing import Shadowing
from speechpipe.types import Bundle

POLL_S = 0.25
CONDUCT_S = 1.0

log = logging.getLogger(__name__)


class Rollouts:
    """Made beside the service; `restore` before it is ready, then `start`."""

    def __init__(self, service: Service) -> None:
        store = service.store
        assert store is not None, "rollouts live in the store"
        self._service = service
        self.desk = RolloutDesk(store, GUARDS, lambda name: verified(service, name), service.champion.id, service.clock)
        self.shadowing = Shadowing(service)
        self.failure = ""  # why the route cannot be followed now
        self._lock = threading.RLock()  # the desk is used by the thread and by whoever asks
        self._cached = service.settings.state_dir / "route.json"
        self._state = RouteState(champion=service.champion.id)
        self._revision = -1
        self._warmed: dict[str, Bundle] = {}  # id of a bundle -> it, warm here
        self._warming: threading.Thread | None = None
        self._broken: tuple[int, str] | None = None  # rollout that cannot run here, and why
        self._wake = threading.Event()
        self._closing = False
        self._conducted_at = 0.0
        self._needed: list[Key] = []
        self._thread = threading.Thread(target=self._run, name="rollout", daemon=True)
        service.mirror = self.shadowing
        service.exposition.add_gauges(self._gauges())

    # ---- life ----

    def restore(self) -> None:
        """Take up the route as it was left; waits until its champion is warm.

        Raises:
            SpeechpipeError: the champion cannot be loaded.
        """
        try:
            with self._lock:
                self._state = self.desk.state()
            self._revision = self._state.revision
        except (SpeechpipeError, *STORE_ERRORS) as error:
            self.failure = str(error)
            self._state = route_file.read(self._cached, GUARDS.rates) or self._state
            log.warning("the route cannot be read (%s); going on with %s", error, self._state.champion)
        bundle = self._bundle(self._state.champion)
        if bundle is not None and bundle != self._service.champion:
            log.warning("the champion is %s, as was promoted; SPEECHPIPE_BUNDLE was only the first", bundle.id)
            self._warm(bundle)
            self._service.router.lane = Lane(bundle)
        self._apply()

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def close(self) -> None:
        """Stop; the route stays as it is."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(10.0)
        if (warming := self._warming) is not None:
            warming.join(10.0)
        self.shadowing.end_all()

    def nudge(self) -> None:
        """Look at once: something was changed here."""
        self._wake.set()

    # ---- the thread ----

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(POLL_S)
            self._wake.clear()
            try:
                self.tick()
                self._service.fleet.retire(self._needed)
            except InUse:
                pass  # another process or person was faster: the next look sees what they did
            except (SpeechpipeError, *STORE_ERRORS) as error:
                self._fails(error)
            except Exception as error:  # the last handler of rollouts: sessions go where they went
                log.exception("the rollout cannot be followed")
                self._fails(error)

    def _fails(self, error: Exception) -> None:
        if not self.failure:
            log.warning("the route cannot be followed, sessions go where they went: %s", error)
        self.failure = str(error).splitlines()[0] if str(error) else type(error).__name__

    def tick(self) -> None:
        """Follow the route, and act on the evidence now and then.

        Raises:
            InUse: another process was faster.
            SpeechpipeError, SQLAlchemyError, OSError: the store cannot be used.
        """
        with self._lock:
            if self.desk.archive.revision() != self._revision:
                self._state = self.desk.state()
                self._revision = self._state.revision
                route_file.write(self._cached, self._state)
                self._apply()
            now = time.monotonic()
            if self._state.active is not None and now - self._conducted_at >= CONDUCT_S:
                self._conducted_at = now
                if self._broken is not None and self._broken[0] == self._state.active.id:
                    self._state = self.desk.fail(self._broken[1])
                else:
                    self._state = self.desk.conduct()
                if self._state.revision != self._revision:
                    self._revision = self._state.revision
                    route_file.write(self._cached, self._state)
                    self._apply()
        self.failure = ""

    def _apply(self) -> None:
        """Route by the state; a candidate that is not warm here gets no sessions until it is."""
        state, service = self._state, self._service
        champion = self._bundle(state.champion) or service.champion
        rollout = state.active
        candidate = self._warmed.get(rollout.candidate) if rollout is not None else None
        if rollout is None or rollout.current.mode is not Mode.SHADOW:
            shadow = None
        else:
            shadow, candidate = candidate, None
        service.router.lane = Lane(champion, rollout, candidate, shadow)
        names = [champion.id, state.previous, *([rollout.candidate] if rollout is not None else [])]
        needed = [bundle for name in names if (bundle := self._bundle(name)) is not None]
        self._needed = [recognizer(bundle.asr).key for bundle in needed]
        keep = {bundle.id for bundle in needed}
        self._warmed = {name: bundle for name, bundle in self._warmed.items() if name in keep}
        self._prepare(rollout, champion, candidate or shadow)

    def _prepare(self, rollout: Rollout | None, champion: Bundle, warm: Bundle | None) -> None:
        """Warm what is missing and end what is over, on a thread of its own: rollbacks do not wait for it."""
        if self._warming is not None:
            return  # it looks again when it is done
        is_shadow = rollout is not None and rollout.current.mode is Mode.SHADOW
        hears = self.shadowing.candidate
        if rollout is None or (warm is not None and not is_shadow):
            wanted = hears is not None  # only to end it
        else:
            broken = self._broken is not None and self._broken[0] == rollout.id
            wanted = not broken and (warm is None or hears != warm)
        if wanted and not self._closing:
            self._warming = threading.Thread(target=self._work, args=(rollout, champion), daemon=True)
            self._warming.start()

    def _work(self, rollout: Rollout | None, champion: Bundle) -> None:
        try:
            if rollout is None or rollout.current.mode is not Mode.SHADOW:
                self.shadowing.end_all()
            if rollout is not None:
                self._warm_candidate(rollout, champion)
        finally:
            with self._lock:
                self._warming = None
                if not self._closing:
                    self._apply()

    def _warm_candidate(self, rollout: Rollout, champion: Bundle) -> None:
        try:
            bundle = self._bundle(rollout.candidate)
            if bundle is None:
                raise BadInput(f"{rollout.candidate} is not known here")
            if self._service.catalogue.digest(bundle) != rollout.candidate_hash:
                raise BadInput(f"{rollout.candidate} is not what it was when the rollout began: its hash differs")
            self._warm(bundle)
            if rollout.current.mode is Mode.SHADOW:
                self.shadowing.begin(champion, bundle)
        except SpeechpipeError as error:
            if not self._closing:
                log.error("the candidate %s cannot run: %s", rollout.candidate, error)
                self._broken = (rollout.id, f"the candidate cannot run: {error.message}")
                self.nudge()

    def _warm(self, bundle: Bundle) -> None:
        self._service.vad(bundle.vad)
        self._service.fleet.warm(recognizer(bundle.asr))
        self._warmed[bundle.id] = bundle

    def _bundle(self, name: str) -> Bundle | None:
        if not name:
            return None
        catalogue = self._service.catalogue
        try:
            return catalogue.bundle(name)
        except SpeechpipeError:
            pass
        try:
            catalogue.reload()  # its card may have come since
            return catalogue.bundle(name)
        except SpeechpipeError as error:
            log.error("%s is on the route and has no card here: %s", name, error)
            return None

    # ---- facts ----

    @property
    def state(self) -> RouteState:
        """The route as this process follows it."""
        return self._state

    def facts(self) -> dict[str, Any]:
        """Return what this process says beyond the store."""
        lane = self._service.router.lane
        hears = lane.shadow is not None and self.shadowing.candidate == lane.shadow
        return {
            "warm": sorted({lane.champion.id, *self._warmed}),
            "ready": lane.candidate is not None or hears,
            "failure": self.failure,
            "shadow": dict(self.shadowing.counts) | {"waiting_s": round(self.shadowing.waiting_s, 1)},
            "routing": dict(self._service.router.counts),
        }

    def locked(self) -> threading.RLock:
        """Return the lock of `desk`: its methods are for one thread at a time."""
        return self._lock

    def _gauges(self) -> tuple[GaugeRow, ...]:
        def weight() -> list[tuple[tuple[str, ...], float]]:
            active = self._state.active
            return [((), active.weight if active is not None else 0.0)]

        shadowed, excepted = self.shadowing.counts, self._service.router.counts
        return (
            GaugeRow("rollout_weight", "Share of new sessions that the candidate answers.", weight),
            by_cause("shadow_sessions_total", "Sessions that shadow compared, or dropped and why.", shadowed),
            by_cause("rollout_exceptions_total", "Sessions that did not go where the plan says, and why.", excepted),
        )


def verified(service: Service, name: str) -> Verified:
    """Return a bundle's identity after looking at all its files.

    Raises:
        UnknownName: there is none.
        BadInput: a file is missing or is not what its card says.
    """
    service.catalogue.reload()
    bundle = service.catalogue.bundle(name)
    if problems := service.catalogue.problems(bundle):
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise BadInput(f"{bundle.id} is not verified: {problems[0]}{more}", cause="bundle_unverified")
    return Verified(bundle.id, service.catalogue.digest(bundle))
