"""One file through the cascade: what an upload and `speechpipe transcribe` both do."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from speechpipe.cascade.asr import DecodeOptions
from speechpipe.cascade.audio import AudioInfo
from speechpipe.cascade.audio.source import AudioSource, ChannelChoice
from speechpipe.cascade.recognition import text_notices
from speechpipe.cascade.request import SessionRequest, new_session_id
from speechpipe.cascade.session import Session
from speechpipe.errors import ClientGone, NotReady, SpeechpipeError, StageFailed
from speechpipe.foundation.storage.record import Measure
from speechpipe.serving.automation.policy import NOT_FOLLOWED, EffectivePolicy
from speechpipe.serving.completed import CompletedSession, automation
from speechpipe.serving.engine import Service
from speechpipe.serving.telemetry.records import Context, InputFacts, refusal_record, session_record, utterance_record
from speechpipe.types import FAILURES, SAMPLE_RATE_HZ, Bundle, Notice, NullCause, SessionSummary, Utterance

CANCEL_CHECK_S = 0.5


@dataclass(frozen=True)
class TranscriptionRequest:
    """What is asked of one file."""

    bundle: Bundle
    choice: ChannelChoice = ChannelChoice()
    language: str | None = None
    prompt: str | None = None
    temperature: float | None = None
    tenant: str = ""
    max_s: float | None = None
    spans_s: tuple[tuple[float, float], ...] | None = None
    id: str = field(default_factory=new_session_id)
    arm: str = "champion"
    route: Mapping[str, Measure] = field(default_factory=dict)
    terms: EffectivePolicy = NOT_FOLLOWED

    @property
    def notices(self) -> list[Notice]:
        """What was asked and this bundle cannot honour."""
        notices = []
        spoken = self.bundle.languages
        if self.language and "*" not in spoken and self.language.lower().split("-")[0] not in spoken:
            message = f"{self.bundle.name} knows {', '.join(spoken)}; language {self.language!r} was not honoured"
            notices.append(Notice("language_not_supported", message))
        if self.prompt:
            notices.append(Notice("prompt_ignored", f"{self.bundle.name} takes no prompt"))
        if self.temperature:
            notices.append(
                Notice("temperature_ignored", f"{self.bundle.name} does not sample; temperature was ignored")
            )
        return notices


@dataclass(frozen=True)
class Channel:
    """What one channel said; channel 0 is also the mix."""

    index: int
    utterances: tuple[Utterance, ...]
    summary: SessionSummary


@dataclass(frozen=True)
class Result:
    """The whole answer for one file."""

    id: str
    bundle: Bundle
    info: AudioInfo
    duration_s: float
    wall_s: float
    channels: tuple[Channel, ...]
    notices: tuple[Notice, ...]
    terms: EffectivePolicy = NOT_FOLLOWED

    @property
    def utterances(self) -> list[tuple[int, Utterance]]:
        """(channel, utterance) of all channels in the order of time."""
        pairs = [(channel.index, utterance) for channel in self.channels for utterance in channel.utterances]
        return sorted(pairs, key=lambda pair: (pair[1].start_s, pair[0]))

    @property
    def text(self) -> str:
        """The whole text."""
        return " ".join(utterance.transcript.text for _, utterance in self.utterances if utterance.transcript.text)


class Transcription:
    """Iterate `run` to the end, then take `result`."""

    def __init__(
        self,
        service: Service,
        file: BinaryIO,
        request: TranscriptionRequest,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Open the file and its sessions.

        Raises:
            BadInput: the file cannot be read, or the request does not fit it; counted in a session record.
        """
        self._service = service
        self._request = request
        self._cancelled = cancelled
        self._begun = time.perf_counter()
        self._size = file.seek(0, 2)
        try:
            self.source = AudioSource(file, request.choice, request.max_s)
        except SpeechpipeError as error:
            self._refused(error)
            raise
        self._utterances: list[list[Utterance]] = [[] for _ in range(self.source.sessions)]
        self._contexts = [self._context(channel) for channel in range(self.source.sessions)]
        self._sessions: list[Session] = []
        self._ended = False

    def _context(self, channel: int) -> Context:
        request = self._request
        session_id = request.id if self.source.sessions == 1 else f"{request.id}-c{channel}"
        tenant_class = self._service.settings.tenant_class(request.tenant)
        return Context(session_id, "upload", request.bundle, request.tenant, tenant_class, request.arm, request.route)

    def _open_sessions(self) -> None:
        service, request = self._service, self._request
        decode = DecodeOptions(whole=True, language=request.language, prompt=request.prompt)
        for context in self._contexts:
            session = SessionRequest(
                decode, request.spans_s, session_id=context.session_id, route=request.route, held=request.terms.followed
            )

            def heard(utterance: Utterance, context: Context = context) -> None:
                more = automation(request.terms, utterance)
                service.emit(utterance_record(context, utterance, service.clock(), more))

            self._sessions.append(service.session(request.bundle, session, heard))

    def run(self) -> Generator[tuple[int, Utterance], None, None]:
        """Yield (channel, utterance) as they become final, in order within a channel.

        Raises:
            EmptyAudio: the file decodes to no samples.
            TooLarge: it decodes to more seconds than the limit.
            StageFailed: a stage broke, or every segment was lost.
            ClientGone: `cancelled` said so.
        """
        outcome = "ok"
        try:
            self._open_sessions()
            for blocks in self.source.blocks():
                self._check_cancelled()
                for channel, (session, samples) in enumerate(zip(self._sessions, blocks, strict=True)):
                    yield from self._kept(channel, session.feed(samples))
            for channel, session in enumerate(self._sessions):
                yield from self._kept(channel, session.finish())
            self.source.check_not_empty()
            for channel, session in enumerate(self._sessions):
                while not session.done:
                    self._check_cancelled()
                    yield from self._kept(channel, session.wait(CANCEL_CHECK_S))
            self._check_not_all_lost()
        except SpeechpipeError as error:
            outcome = error.cause
            raise
        except GeneratorExit:
            outcome = ClientGone.cause
            raise
        except BaseException:
            outcome = SpeechpipeError.cause
            raise
        finally:
            self._end(outcome)

    def _kept(self, channel: int, utterances: list[Utterance]) -> Iterator[tuple[int, Utterance]]:
        self._utterances[channel] += utterances
        for utterance in utterances:
            yield channel, utterance

    def _check_cancelled(self) -> None:
        if self._cancelled():
            raise ClientGone("the client hung up")

    def _check_not_all_lost(self) -> None:
        """An error never looks like silence: text that is missing because all segments failed is an error."""
        transcripts = [utterance.transcript for channel in self._utterances for utterance in channel]
        failed = [transcript for transcript in transcripts if transcript.null_cause in FAILURES]
        if failed and not any(transcript.text for transcript in transcripts):
            if all(transcript.null_cause is NullCause.WORKER_UNAVAILABLE for transcript in failed):
                raise NotReady(f"no segment could be transcribed: {failed[0].detail}")
            raise StageFailed("asr", f"no segment could be transcribed ({failed[0].null_cause}: {failed[0].detail})")

    def close(self) -> None:
        """Give up what `run` has not ended (it may never have been begun); otherwise do nothing."""
        self._end(ClientGone.cause)

    def _end(self, outcome: str) -> None:
        if self._ended:
            return
        self._ended = True
        for session in self._sessions:
            session.abort()
        if outcome != "ok" and self._service.reviewing is not None and self._request.terms.followed:
            self._service.reviewing.discard([context.session_id for context in self._contexts])
        self.source.close()
        facts = self._facts()
        timing = (self._service.clock(), time.perf_counter() - self._begun)
        for context, session in zip(self._contexts, self._sessions, strict=False):
            self._service.emit(session_record(context, session.summary(), facts, outcome, timing))
        for context in self._contexts[len(self._sessions) :]:  # a stage broke before there was a session
            self._service.emit(refusal_record(context, outcome, self._size, timing[0]))

    def _facts(self) -> InputFacts:
        info = self.source.info
        return InputFacts(
            claimed_s=info.claimed_s,
            bytes=self._size,
            rate_hz=info.rate_hz,
            channels=info.channels,
            codec=f"{info.container}/{info.codec}",
            channel_correlation=self.source.channel_correlation,
            notices=len(self.source.notices),
            decode_wall_s=self.source.wall_s,
        )

    def _refused(self, error: SpeechpipeError) -> None:
        """Record a file that never became a session: the share of unreadable input is an input metric."""
        tenant = self._request.tenant
        tenant_class = self._service.settings.tenant_class(tenant)
        asked = self._request
        context = Context(asked.id, "upload", asked.bundle, tenant, tenant_class, asked.arm, asked.route)
        self._service.emit(refusal_record(context, error.cause, self._size, self._service.clock()))

    def completed(self, result: Result) -> list[CompletedSession]:
        """Return the sessions of the result, for people who may look at them."""
        return [
            CompletedSession(
                context.session_id,
                self._request.tenant,
                "upload",
                self._request.bundle,
                channel.summary.accounting.received / SAMPLE_RATE_HZ,
                channel.utterances,
            )
            for context, channel in zip(self._contexts, result.channels, strict=True)
        ]

    @property
    def result(self) -> Result:
        """The answer, once `run` has ended."""
        channels = tuple(
            Channel(index, tuple(utterances), session.summary())
            for index, (utterances, session) in enumerate(zip(self._utterances, self._sessions, strict=True))
        )
        return Result(
            id=self._request.id,
            bundle=self._request.bundle,
            info=self.source.info,
            duration_s=channels[0].summary.accounting.received / SAMPLE_RATE_HZ,
            wall_s=time.perf_counter() - self._begun,
            channels=channels,
            notices=(
                *self._request.notices,
                *self.source.notices,
                *text_notices(one.summary for one in channels),
            ),
            terms=self._request.terms,
        )
