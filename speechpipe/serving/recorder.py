"""The recorder of a session, of an upload or live: emits its records and makes its `CompletedSession`."""

from collections.abc import Mapping, Sequence

from speechpipe.foundation.storage.record import Measure
from speechpipe.serving.assignment import ClientRequest
from speechpipe.serving.hooks import CompletedSession
from speechpipe.serving.service import Service
from speechpipe.serving.telemetry.records import (
    NOTHING,
    Context,
    InputFacts,
    refusal_record,
    session_record,
    utterance_record,
)
from speechpipe.types import SessionSummary, Utterance


class SessionRecorder:
    """Emits the records of one session. Used on the session's thread; never blocks or raises."""

    def __init__(self, service: Service, request: ClientRequest, session_id: str) -> None:
        """Emit records of the session `session_id` of `request` to `service`."""
        self.session_id = session_id
        self._service = service
        self._request = request
        tenant_class = service.settings.tenant_class(request.tenant)
        self._context = Context(
            session_id, request.channel, request.bundle, request.tenant, tenant_class, request.arm, request.route
        )

    def utterance(self, utterance: Utterance, more: Mapping[str, Measure] = NOTHING) -> None:
        """Emit the record of an utterance, with `more` measures and whether its text is delivered without review."""
        terms = self._request.terms
        if terms.followed:
            more = {**more, "people.auto_accepted": int(terms.accepts(utterance.transcript.confidence))}
        self._service.records.emit(utterance_record(self._context, utterance, self._service.clock(), more))

    def ended(
        self,
        summary: SessionSummary,
        facts: InputFacts,
        outcome: str,
        timing: tuple[float, float],
        more: Mapping[str, Measure] = NOTHING,
    ) -> None:
        """Emit the record of the session.

        Args:
            summary: totals of the session.
            facts: facts about its input.
            outcome: "ok", or the cause of the error.
            timing: Unix time of the end, and the duration in wall seconds.
            more: further measures.
        """
        measures = {**self._request.biasing, **more}
        record = session_record(self._context, summary, facts, outcome, timing, measures)
        self._service.engine.ended(record)
        self._service.records.emit(record)

    def refused(self, cause: str, size: int, at: float) -> None:
        """Emit the record of an input of `size` bytes that was refused before there was a session."""
        self._service.records.emit(refusal_record(self._context, cause, size, at))

    def completed(self, duration_s: float, utterances: Sequence[Utterance]) -> CompletedSession:
        """Return the completed session for the review service."""
        request = self._request
        return CompletedSession(
            self.session_id, request.tenant, request.channel, request.bundle, duration_s, utterances
        )
