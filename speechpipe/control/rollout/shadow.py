"""Shadow: after a session has ended, the candidate gets a copy at the lowest priority. Its result is not served.

Its result is compared with the served one: text, speech segments, cost. Replacing only one half (the VAD or the
recognizer) by the candidate's shows which half causes a difference.
"""

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from speechpipe.cascade.catalog.factories import file_pool, recognizer, segmenter
from speechpipe.cascade.request import SessionRequest
from speechpipe.cascade.session import Session, SessionOptions
from speechpipe.cascade.vad.loaded import LoadedVads
from speechpipe.cascade.workers.pool import RecognizerPool
from speechpipe.config import Settings
from speechpipe.control.rollout.shadow_diff import ArmOutput, Copy, compared, difference
from speechpipe.errors import SpeechpipeError
from speechpipe.foundation import system
from speechpipe.foundation.background import BackgroundTask
from speechpipe.foundation.storage.record import Measure, Record
from speechpipe.serving.assignment import MIRRORED
from speechpipe.serving.pools import PoolManager
from speechpipe.serving.telemetry.records import Context, InputFacts, session_record, utterance_record
from speechpipe.types import FAILURES, SAMPLE_RATE_HZ, Bundle, Samples, SessionSummary, Utterance

MOST_HELD_S = 600.0
"""Audio that is held for shadow, 38 MB. Sessions beyond that are counted and not compared."""

SWAP_EVERY = 2
"""If both halves differ, one of this many sessions is also processed with each half alone."""

BLOCK = SAMPLE_RATE_HZ // 4


class ShadowService:
    """A `Mirror` with a thread and a worker of its own. Thread-safe."""

    def __init__(
        self,
        settings: Settings,
        pools: PoolManager,
        vads: LoadedVads,
        emit: Callable[[Record], None],
        clock: Callable[[], float],
        on_compared: Callable[[Record], None] | None = None,
    ) -> None:
        """Make the service; `begin` starts its thread and worker.

        Args:
            settings: the server's settings.
            pools: the pools of the sessions that are served; while they work, shadow goes slowly.
            vads: the server's VADs.
            emit: takes the records.
            clock: returns Unix seconds.
            on_compared: takes the record of each comparison before `emit` does.
        """
        self._settings = settings
        self._pools = pools
        self._vads = vads
        self._emit = emit
        self._clock = clock
        self._on_compared = on_compared
        self._copies: dict[str, Copy] = {}
        self._queue: queue.SimpleQueue[tuple[Copy, Record] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._changing = threading.Lock()  # held while shadow begins or ends, which takes seconds
        self._held_s = 0.0
        self._number = 0
        self._pool: RecognizerPool | None = None
        self._pair: tuple[Bundle, Bundle] | None = None
        self._task: BackgroundTask | None = None
        self.counts: Counter[str] = Counter()

    # ---- lifetime ----

    @property
    def tasks(self) -> list[BackgroundTask]:
        """The background tasks that exist at present."""
        task, pool = self._task, self._pool
        return [*([task] if task is not None else []), *([pool.task] if pool is not None else [])]

    def begin(self, champion: Bundle, candidate: Bundle) -> None:
        """Start giving copies of the champion's sessions to `candidate`; waits until its worker is ready.

        Raises:
            WorkerLoadFailed, StageFailed: the candidate cannot be loaded.
        """
        with self._changing:
            if self._pair != (champion, candidate):
                self._end()
                self._begin(champion, candidate)

    def _begin(self, champion: Bundle, candidate: Bundle) -> None:
        self._vads.get(candidate.vad)
        specs = {spec.key: spec for spec in (recognizer(candidate.asr), recognizer(champion.asr))}
        options = replace(
            file_pool(self._settings), workers=1, slots=8, nice=system.IDLE_PRIORITY, attempts=1, live=True
        )
        pool = RecognizerPool(options, list(specs.values()), name="shadow-workers")
        pool.start()
        try:
            pool.wait_ready()
        except BaseException:
            pool.close()
            raise
        self._pool, self._pair = pool, (champion, candidate)
        self._task = BackgroundTask("shadow", self._compare_next, unblock=lambda: self._queue.put(None))
        self._task.start()

    def end_all(self) -> None:
        """End shadow; copies that were not processed are dropped and counted."""
        with self._changing:
            self._end()

    def _end(self) -> None:
        self._pair = None
        task, self._task = self._task, None
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()  # fails the job that the thread waits for
        if task is not None:
            task.close()
        while (item := self._next(wait=False)) is not None:
            item[0].drop("ended")
            self._drop("ended")
        with self._lock:
            copies, self._copies = list(self._copies.values()), {}
        for copy in copies:
            copy.drop("ended")

    # ---- Mirror ----

    def open(self, bundle: Bundle, request: SessionRequest) -> Copy | None:
        """Return the `Copy` that records a session; None if it is not shadowed."""
        pair = self._pair
        if pair is None or MIRRORED not in request.route or request.session_id is None:
            return None
        if bundle != pair[0]:
            self._drop("own_parameters")
            return None
        if request.manual or request.spans_s is not None:
            self._drop("segments_given")  # by the client, so there is no VAD to compare
            return None
        copy = Copy(bundle, request, self._claim)
        with self._lock:
            self._copies[request.session_id] = copy
        return copy

    def end(self, record: Record) -> None:
        """Queue the copy of an ended session."""
        with self._lock:
            copy = self._copies.pop(record.session_id, None)
        if copy is None:
            return
        if not copy.dropped and (record.outcome != "ok" or not copy.samples):
            copy.drop("not_served")
        if copy.dropped:
            self._drop(copy.dropped)
        else:
            self._queue.put((copy, record))

    def _claim(self, seconds: float) -> bool:
        """Reserve memory for audio, or (negative seconds) release it; return whether it fits."""
        with self._lock:
            fits = self._held_s + seconds <= MOST_HELD_S
            if fits:
                self._held_s = max(0.0, self._held_s + seconds)
            return fits

    def _drop(self, cause: str) -> None:
        with self._lock:
            self.counts[cause] += 1

    @property
    def candidate(self) -> Bundle | None:
        """The bundle that gets copies at present, or None."""
        pair = self._pair
        return None if pair is None else pair[1]

    @property
    def waiting_s(self) -> float:
        """Seconds of audio in memory."""
        return self._held_s

    # ---- the shadow thread ----

    def _next(self, *, wait: bool) -> tuple[Copy, Record] | None:
        """Return the next copy; None when shadow ends, or (without `wait`) if there is none."""
        try:
            return self._queue.get(block=wait)
        except queue.Empty:
            return None

    def _compare_next(self) -> None:
        if (item := self._next(wait=True)) is None:
            return
        copy, record = item
        pair, pool = self._pair, self._pool
        outcome = "broken"
        try:
            if pair is None or pool is None:
                outcome = "ended"
            else:
                self._compare(copy, record, pair[1], pool)
                outcome = ""
        except SpeechpipeError as error:
            outcome = error.cause
        finally:
            if outcome:
                self._drop(outcome)
            copy.drop(outcome or "heard")

    def _compare(self, copy: Copy, served: Record, candidate: Bundle, pool: RecognizerPool) -> None:
        champion, audio = copy.bundle, copy.audio
        # Without partial results and decodes in vain, which a copy does not have in the same number.
        cpu_s = served.number("vad.cpu_s") + served.number("asr.cpu_s") - served.number("asr.spare_cpu_s")
        then = ArmOutput(copy.utterances, cpu_s, any(one.transcript.null_cause in FAILURES for one in copy.utterances))
        now = self._recognize(candidate, copy, audio, pool, served)
        same_vad = (champion.vad, dict(champion.segmenter)) == (candidate.vad, dict(candidate.segmenter))
        same_asr = champion.asr == candidate.asr
        self._number += 1
        halves: dict[str, Measure] = {}
        if same_vad or same_asr:
            changed = difference(then.text, now.text)
            halves = {"shadow.vad_half": 0.0 if same_vad else changed, "shadow.asr_half": 0.0 if same_asr else changed}
        elif self._number % SWAP_EVERY == 0:
            only_vad = replace(champion, vad=candidate.vad, segmenter=candidate.segmenter)
            only_asr = replace(champion, asr=candidate.asr)
            for name, bundle in (("vad", only_vad), ("asr", only_asr)):
                halves[f"shadow.{name}_half"] = difference(then.text, self._recognize(bundle, copy, audio, pool).text)
        if self._pair is None:
            self._drop("ended")  # an interrupted comparison would look like a failure of the candidate
            return
        record = replace(
            served,
            kind="shadow",
            id=f"{served.session_id}-pair",
            at=self._clock(),
            bundle=candidate.name,
            bundle_version=candidate.version,
            arm="shadow",
            measures={**copy.request.route, **compared(then, now), **halves},
        )
        if self._on_compared is not None:
            self._on_compared(record)
        self._emit(record)
        with self._lock:
            self.counts["compared"] += 1

    def _recognize(
        self, bundle: Bundle, copy: Copy, audio: Samples, pool: RecognizerPool, served: Record | None = None
    ) -> ArmOutput:
        """Return the output of `bundle` on the audio; with `served`, also emit records on the shadow arm."""
        vad, spec, request = self._vads.get(bundle.vad), recognizer(bundle.asr), copy.request
        session_id = f"{request.session_id}-shadow"
        cut = segmenter(bundle, vad.frame_samples, spans_s=request.spans_s, manual=False)
        session = Session(
            SessionOptions(
                id=session_id,
                vad=vad,
                segmenter=cut,
                open_job=lambda decode, before: pool.open(spec, decode, session_id, before),
                decode=request.decode,
                feed_step=request.feed_step,
            )
        )
        begun, outcome = time.perf_counter(), "ok"
        utterances: list[Utterance] = []
        try:
            for start in range(0, len(audio), BLOCK):
                utterances += session.feed(audio[start : start + BLOCK])
                self._pace()
            utterances += session.finish()
            while not session.done:
                utterances += session.wait()
        except SpeechpipeError as error:
            outcome = error.cause
            session.abort()
        summary = session.summary()
        if served is not None and self._pair is not None:
            self._leave_records(bundle, served, utterances, summary, (outcome, time.perf_counter() - begun))
        failed = outcome != "ok" or any(one.transcript.null_cause in FAILURES for one in utterances)
        cpu_s = summary.vad_cpu_s + summary.asr_cpu_s - summary.asr_spare_cpu_s
        return ArmOutput(utterances, cpu_s, failed)

    def _pace(self) -> None:
        """Sleep between blocks while other sessions are served.

        The worker runs at the lowest priority but still evicts the caches of others. The VAD runs on this thread at
        normal priority: a low-priority thread that holds the interpreter lock would block all other threads.
        """
        speed = self._settings.shadow_speed
        if speed and any(status.active for status in self._pools.statuses().values()):
            time.sleep(BLOCK / SAMPLE_RATE_HZ / speed)

    def _leave_records(
        self,
        bundle: Bundle,
        served: Record,
        utterances: Sequence[Utterance],
        summary: SessionSummary,
        end: tuple[str, float],
    ) -> None:
        outcome, wall_s = end
        context = Context(summary.id, served.channel, bundle, served.tenant, served.tenant_class, "shadow")
        now = self._clock()
        for utterance in utterances:
            self._emit(utterance_record(context, utterance, now))
        self._emit(session_record(context, summary, InputFacts(), outcome, (now, wall_s)))
