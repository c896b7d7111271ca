"""What is written down of a session, be it of an upload or live: its records, and what people get to look at."""

from collections.abc import Mapping, Sequence

from speechpipe.foundation.storage.record import Measure
from speechpipe.serving.assignment import ClientRequest
from speechpipe.serving.engine import Service
from speechpipe.serving.hooks import CompletedSession
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
    """Of one session. Used on the thread that runs it; nothing here waits or raises."""

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
        """Emit the record of an utterance, with `more` measures and whether its text is delivered unseen."""
        terms = self._request.terms
        if terms.followed:
            more = {**more, "people.auto_accepted": int(terms.accepts(utterance.transcript.confidence))}
        self._service.emit(utterance_record(self._context, utterance, self._service.clock(), more))

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
            summary: what it did.
            facts: what is known of its input.
            outcome: "ok", or the cause of the error.
            timing: unix time of the end, and the seconds that it took.
            more: further measures.
        """
        self._service.emit(session_record(self._context, summary, facts, outcome, timing, more))

    def refused(self, cause: str, size: int, at: float) -> None:
        """Emit the record of an input of `size` bytes that never became a session."""
        self._service.emit(refusal_record(self._context, cause, size, at))

    def completed(self, duration_s: float, utterances: Sequence[Utterance]) -> CompletedSession:
        """Return the session, which is over, for people who may look at it."""
        request = self._request
        return CompletedSession(
            self.session_id, request.tenant, request.channel, request.bundle, duration_s, utterances
        )
