"""The prober: sends probes through the running service at intervals, while its workers are idle.

The first results of a bundle are pinned in the state directory. Later rounds are compared with them stage by stage: the
VAD by its segments, the recognizer by its texts of the pinned segments. Each version of a bundle is pinned separately.
"""

import json
import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from speechpipe.cascade.asr import DecodeOptions
from speechpipe.cascade.evaluation.manifest import Clip, read_manifest
from speechpipe.cascade.request import SessionRequest
from speechpipe.errors import BadInput, InvalidParameter, SpeechpipeError
from speechpipe.foundation.background import BackgroundTask
from speechpipe.foundation.state_files import write_file
from speechpipe.foundation.storage.record import Measure, Record
from speechpipe.serving.health.probes import (
    AnswerSeen,
    SegmentSeen,
    answer_seen,
    answers_differ,
    segment_seen,
    segments_differ,
)
from speechpipe.serving.service import Service
from speechpipe.types import Bundle, Utterance

IDLE_CHECK_S = 0.5
PATIENCE_S = 60.0
"""If the service is busy for longer, the rest of a round is skipped."""

MOST = 50
FAILED = ("timeout", "worker_crash", "overload")
"""Null causes that say nothing about the recognizer; a probe with one of them counts as failed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Golden:
    """The pinned results of one probe."""

    segments: tuple[SegmentSeen, ...]
    answers: tuple[AnswerSeen, ...]


class Prober:
    """A background task that sends probes; does nothing if the settings name no probes."""

    def __init__(self, service: Service) -> None:
        """Read the probes, so that a wrong manifest is reported at the start.

        Raises:
            InvalidParameter: the manifest, or a recording of it, cannot be read.
        """
        self._service = service
        self._clips = self._read()
        self._task = BackgroundTask("probes", self._probe_all, every_s=service.settings.probe_every_s)
        if service.settings.probes is not None:
            service.tasks.add(self._task)

    def start(self) -> None:
        """Start the task, if the settings name probes."""
        if self._service.settings.probes is not None:
            self._task.start()

    def close(self) -> None:
        """Stop after the probe in progress."""
        self._task.close()

    def _read(self) -> Sequence[Clip]:
        manifest = self._service.settings.probes
        try:
            return read_manifest(manifest, MOST) if manifest is not None else ()
        except BadInput as error:
            raise InvalidParameter(error.message, param="probes") from error

    def _probe_all(self) -> None:
        self.round(self._clips)

    def round(self, clips: Sequence[Clip]) -> None:
        """Send each probe once, and emit its record; probes without pinned results are pinned instead."""
        bundle = self._service.engine.champion
        pinned = self._pinned(bundle)
        known = len(pinned)
        for clip in clips:
            if not self._idle():
                log.info("the rest of a round of probes was skipped: the service is busy")
                break
            try:
                self._probe(bundle, clip, pinned)
            except SpeechpipeError as error:
                self._emit(bundle, clip, error.cause, {})
        if len(pinned) != known:
            self._pin(bundle, pinned)

    def _idle(self) -> bool:
        """Wait until no segment is queued or active; False if that takes too long or the task ends."""
        waited = 0.0
        while not self._task.closing:
            status = self._service.engine.pool.status()
            if status.queued == 0 and status.active == 0:
                return True
            if waited >= PATIENCE_S:
                return False
            self._task.pause(IDLE_CHECK_S)
            waited += IDLE_CHECK_S
        return False

    def _probe(self, bundle: Bundle, clip: Clip, pinned: dict[str, Golden]) -> None:
        utterances = self._hear(bundle, clip, None)
        segments = tuple(segment_seen(one) for one in utterances)
        golden = pinned.get(clip.name)
        if golden is None:
            if not any(answer_seen(one).outcome in FAILED for one in utterances):
                pinned[clip.name] = Golden(segments, tuple(answer_seen(one) for one in utterances))
            return
        measures: dict[str, Measure] = {"vad.probe_differs": float(segments_differ(golden.segments, segments))}
        if measures["vad.probe_differs"]:  # compare the recognizer on the pinned segments
            spans = tuple((segment.start_s, segment.end_s) for segment in golden.segments)
            utterances = self._hear(bundle, clip, spans) if spans else []
        answers = tuple(answer_seen(one) for one in utterances)
        lost = [answer.outcome for answer in answers if answer.outcome in FAILED]
        if not lost:
            measures["asr.probe_differs"] = float(answers_differ(golden.answers, answers))
        outcome = lost[0] if lost else "differs" if any(measures.values()) else "ok"
        self._emit(bundle, clip, outcome, measures)

    def _hear(self, bundle: Bundle, clip: Clip, spans_s: tuple[tuple[float, float], ...] | None) -> list[Utterance]:
        session = self._service.engine.session(bundle, SessionRequest(DecodeOptions(offline=True), spans_s))
        try:
            utterances = [*session.feed(clip.samples), *session.finish()]
            while not session.done and not self._task.closing:
                utterances += session.wait(1.0)
        finally:
            session.abort()
        return utterances

    def _emit(self, bundle: Bundle, clip: Clip, outcome: str, measures: dict[str, Measure]) -> None:
        self._service.records.emit(
            Record(
                kind="probe",
                id=f"probe-{uuid.uuid4().hex}",
                session_id=f"probe-{clip.name}"[:64],
                at=self._service.clock(),
                channel="probe",
                bundle=bundle.name,
                bundle_version=bundle.version,
                outcome=outcome,
                measures=measures,
            )
        )

    # ---- pinned results ----

    def _path(self, bundle: Bundle) -> Path:
        return self._service.settings.state_dir / "probes" / f"{bundle.id}.json"

    def _pinned(self, bundle: Bundle) -> dict[str, Golden]:
        path = self._path(bundle)
        if not path.exists():
            return {}
        try:
            return {
                name: Golden(
                    tuple(SegmentSeen(*segment) for segment in found["segments"]),
                    tuple(AnswerSeen(*answer) for answer in found["answers"]),
                )
                for name, found in json.loads(path.read_text()).items()
            }
        except (ValueError, KeyError, TypeError) as error:
            log.error("%s is damaged, its probes are pinned again: %s", path, error)
            return {}

    def _pin(self, bundle: Bundle, pinned: dict[str, Golden]) -> None:
        path = self._path(bundle)
        document = {name: {"segments": one.segments, "answers": one.answers} for name, one in pinned.items()}
        write_file(path, json.dumps(document, indent=1).encode())
        log.info("the results of %d probes of %s were pinned in %s", len(pinned), bundle.id, path)
