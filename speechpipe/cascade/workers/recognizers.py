"""What a pool knows of its recognizers: which decode segments together, how many, and what they cost."""

from speechpipe.cascade.workers.job import Job

BATCH_CPU_S = 1.5
"""Most CPU time of segments that are decoded together. A session waits no longer than that for its turn: a short upload
beside a long one, a segment alone beside its time limit."""

FIRST_PACE = 0.1
"""CPU seconds per second of audio that are assumed of such segments before the first was decoded."""

LEAST_PACE, PACE_WEIGHT = 1e-3, 0.2


class KnownRecognizers:
    """Figures by the key of a recognizer. Not thread-safe: call with the pool's lock held."""

    def __init__(self) -> None:
        self._batch_s: dict[object, float] = {}
        self._pace: dict[object, float] = {}  # CPU seconds per second of uploaded audio
        self._live_cost: dict[object, float] = {}  # the same of live audio, as measured at the warm-up

    def loaded(self, key: object, batch_s: float, live_cost: float) -> None:
        """A worker has loaded a recognizer (see `Loaded`)."""
        self._batch_s[key], self._live_cost[key] = batch_s, live_cost

    def opened(self, key: object, batch_s: float) -> None:
        """A worker has opened a stream of a recognizer (see `Opened`)."""
        self._batch_s[key] = batch_s

    def decoded(self, job: Job, cpu_s: float) -> None:
        """Note what a segment of an upload cost. The mean forgets, because several together cost less."""
        if job.options.offline and job.samples:
            before, now = self._pace.get(job.spec.key, FIRST_PACE), max(cpu_s / job.audio_s, LEAST_PACE)
            self._pace[job.spec.key] = before + PACE_WEIGHT * (now - before)

    def waits_for_its_end(self, job: Job) -> bool:
        """Whether an open segment is dispatched only when it has ended: it may be decoded with others."""
        return job.options.offline and not job.finished and self._batch_s.get(job.spec.key, 0.0) > 0

    def together_s(self, job: Job) -> float:
        """Return the most seconds of audio to decode together with an ended segment, itself included; 0: alone."""
        key = job.spec.key
        if not job.options.offline or not job.finished or job.alone:
            return 0.0
        return min(self._batch_s.get(key, 0.0), BATCH_CPU_S / self._pace.get(key, FIRST_PACE))

    @property
    def live_cost(self) -> float:
        """CPU seconds per second of live audio of the costliest recognizer; 0: unknown."""
        return max(self._live_cost.values(), default=0.0)
