"""Readiness: whether this server should get sessions now, and if not, why."""

from speechpipe.cascade.catalog.factories import recognizer
from speechpipe.foundation.background import BackgroundTasks
from speechpipe.serving.pools import PoolManager, PoolPair
from speechpipe.serving.routing import Router


class Readiness:
    """The state of the parts that sessions need. Thread-safe."""

    def __init__(self, pools: PoolManager, router: Router, tasks: BackgroundTasks) -> None:
        self._pools = pools
        self._router = router
        self._tasks = tasks
        self._started = False

    @property
    def started(self) -> bool:
        """Whether sessions are accepted."""
        return self._started

    def begin(self) -> None:
        """Accept sessions from now on."""
        self._started = True

    def end(self) -> None:
        """Accept no further session."""
        self._started = False

    @property
    def _pairs(self) -> list[PoolPair]:
        """The pools of champion and candidate; either can answer if the other has no worker."""
        answering = (self._router.snapshot.champion, self._router.snapshot.candidate)
        return [self._pools.pair(recognizer(bundle.asr)) for bundle in answering if bundle is not None]

    @property
    def live(self) -> bool:
        """Whether a worker accepts live audio."""
        return any(pair.live is not None and pair.live.ready for pair in self._pairs)

    @property
    def unavailable(self) -> str:
        """Why no worker can process an upload; empty if one can, or could until a moment ago."""
        reasons = [pair.files.unavailable for pair in self._pairs]
        return reasons[0] if all(reasons) else ""

    def reasons(self) -> list[str]:
        """Return why sessions should go to another server; empty when ready."""
        reasons = [] if self._started else ["starting or shutting down"]
        pairs = self._pairs
        if not any(pair.files.ready for pair in pairs):
            reasons.append(f"no recognizer worker is ready {pairs[0].files.status().failure}".strip())
        if self._pools.first.live is not None and not self.live:
            reasons.append("no recognizer worker for live audio is ready")
        ended = [status.name for status in self._tasks.statuses() if status.ended]
        return reasons + [f"the background task {name} has ended" for name in ended]

    def workers_missing(self) -> list[dict[str, str | int]]:
        """Return the pools that have fewer ready workers than wanted, with the reason of the last failed start."""
        return [
            {"pool": name, "ready": status.ready_workers, "wanted": status.workers, "failure": status.failure}
            for name, status in self._pools.statuses().items()
            if status.ready_workers < status.workers
        ]
