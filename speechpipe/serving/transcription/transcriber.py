"""Transcription of one file, used by uploads and by `speechpipe transcribe`."""

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from speechpipe.cascade.audio import AudioInfo
from speechpipe.cascade.audio.source import AudioSource, ChannelChoice
from speechpipe.cascade.recognition import text_notices
from speechpipe.cascade.request import SessionRequest
from speechpipe.cascade.session import Session
from speechpipe.errors import ClientGone, NotReady, SpeechpipeError, StageFailed
from speechpipe.serving.assignment import ClientRequest
from speechpipe.serving.automation.policy import NOT_FOLLOWED, EffectivePolicy
from speechpipe.serving.hooks import CompletedSession
from speechpipe.serving.recorder import SessionRecorder
from speechpipe.serving.service import Service
from speechpipe.serving.telemetry.records import InputFacts
from speechpipe.serving.text import TextOptions
from speechpipe.serving.text.formatter import TextFormatter
from speechpipe.types import FAILURES, SAMPLE_RATE_HZ, Bundle, Notice, NullCause, SessionSummary, Utterance

CANCEL_CHECK_S = 0.5


@dataclass(frozen=True)
class TranscriptionRequest(ClientRequest):
    """The request for the transcription of one file."""

    channel: str = field(default="upload", kw_only=True)
    choice: ChannelChoice = field(default=ChannelChoice(), kw_only=True)
    temperature: float | None = field(default=None, kw_only=True)
    max_s: float | None = field(default=None, kw_only=True)
    spans_s: tuple[tuple[float, float], ...] | None = field(default=None, kw_only=True)

    @property
    def not_honoured(self) -> list[Notice]:
        """Notices about parameters that this bundle does not support."""
        notices = super().not_honoured
        if self.temperature:
            notices.append(
                Notice("temperature_ignored", f"{self.bundle.name} does not sample; temperature was ignored")
            )
        return notices


@dataclass(frozen=True)
class Channel:
    """The result of one channel; without multichannel, channel 0 is the mix or the chosen channel."""

    index: int
    utterances: tuple[Utterance, ...]
    summary: SessionSummary


@dataclass(frozen=True)
class Result:
    """The result for one file."""

    id: str
    bundle: Bundle
    info: AudioInfo
    duration_s: float
    wall_s: float
    channels: tuple[Channel, ...]
    notices: tuple[Notice, ...]
    terms: EffectivePolicy = NOT_FOLLOWED
    translated: bool = False  # into English
    text_options: TextOptions = TextOptions()  # how its texts are written; by default as the recognizer wrote them

    def written(self, formatter: TextFormatter) -> "Result":
        """Return the result as its client asked for it. Records and reviews get the original."""
        channels = tuple(
            replace(channel, utterances=tuple(map(formatter.utterance, channel.utterances)))
            for channel in self.channels
        )
        notices = (*self.notices, *formatter.notices)
        return replace(self, channels=channels, notices=notices, text_options=formatter.options)

    @property
    def utterances(self) -> list[tuple[int, Utterance]]:
        """(channel, utterance) of all channels, ordered by start time."""
        pairs = [(channel.index, utterance) for channel in self.channels for utterance in channel.utterances]
        return sorted(pairs, key=lambda pair: (pair[1].start_s, pair[0]))

    @property
    def text(self) -> str:
        """The texts of all utterances, joined by spaces."""
        return " ".join(utterance.transcript.text for _, utterance in self.utterances if utterance.transcript.text)


class Transcription:
    """One transcription: iterate `run` to the end, then call `result`. Used by one thread."""

    def __init__(
        self,
        service: Service,
        file: BinaryIO,
        request: TranscriptionRequest,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Open the file and its sessions.

        Raises:
            BadInput: the file cannot be read, or the request does not fit it. A session record is emitted for it.
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
        ids = request.session_ids(self.source.sessions)
        self._recorders = [SessionRecorder(service, request, session_id) for session_id in ids]
        self._sessions: list[Session] = []
        self._ended = False

    def _open_sessions(self) -> None:
        request = self._request
        decode = request.decode(offline=True)
        for recorder in self._recorders:
            session = SessionRequest(
                decode,
                request.spans_s,
                session_id=recorder.session_id,
                route=request.route,
                held=request.terms.followed,
            )
            self._sessions.append(self._service.engine.session(request.bundle, session, recorder.utterance))

    def run(self) -> Generator[tuple[int, Utterance], None, None]:
        """Yield (channel, utterance) as they become final, in order within a channel.

        Raises:
            EmptyAudio: the file decodes to no samples.
            TooLarge: it decodes to more seconds than the limit.
            StageFailed: a stage failed, or all segments were lost.
            ClientGone: `cancelled` returned True.
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
            raise ClientGone("the client closed the connection")

    def _check_not_all_lost(self) -> None:
        """Raise if there is no text and a segment has failed, as an empty text would look like silence."""
        transcripts = [utterance.transcript for channel in self._utterances for utterance in channel]
        failed = [transcript for transcript in transcripts if transcript.null_cause in FAILURES]
        if failed and not any(transcript.text for transcript in transcripts):
            if all(transcript.null_cause is NullCause.WORKER_UNAVAILABLE for transcript in failed):
                raise NotReady(f"no segment could be transcribed: {failed[0].detail}")
            raise StageFailed("asr", f"no segment could be transcribed ({failed[0].null_cause}: {failed[0].detail})")

    def close(self) -> None:
        """Abort the sessions if `run` was not iterated to the end; else do nothing."""
        self._end(ClientGone.cause)

    def _end(self, outcome: str) -> None:
        if self._ended:
            return
        self._ended = True
        for session in self._sessions:
            session.abort()
        if outcome != "ok" and self._service.reviews is not None and self._request.terms.followed:
            self._service.reviews.discard([recorder.session_id for recorder in self._recorders])
        self.source.close()
        facts = self._facts()
        timing = (self._service.clock(), time.perf_counter() - self._begun)
        for recorder, session in zip(self._recorders, self._sessions, strict=False):
            recorder.ended(session.summary(), facts, outcome, timing)
        for recorder in self._recorders[len(self._sessions) :]:  # a stage failed before the session was opened
            recorder.refused(outcome, self._size, timing[0])

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
        """Emit a record for a file without a session, so that the share of undecodable input is measured."""
        recorder = SessionRecorder(self._service, self._request, self._request.id)
        recorder.refused(error.cause, self._size, self._service.clock())

    def completed(self, result: Result) -> list[CompletedSession]:
        """Return the sessions of the result for the review service."""
        return [
            recorder.completed(channel.summary.accounting.received / SAMPLE_RATE_HZ, channel.utterances)
            for recorder, channel in zip(self._recorders, result.channels, strict=True)
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
                *self._request.not_honoured,
                *self.source.notices,
                *text_notices(one.summary for one in channels),
            ),
            terms=self._request.terms,
            translated=self._request.translate,
        )
