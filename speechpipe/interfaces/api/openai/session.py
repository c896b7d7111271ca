"""The settings of a Realtime transcription session: OpenAI's `session` object, validated and converted."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from speechpipe.cascade.audio.wire_format import WireFormat
from speechpipe.errors import InvalidParameter
from speechpipe.interfaces.api.openai.form import ServerVad, as_parameter
from speechpipe.serving.assignment import Choice
from speechpipe.serving.biasing import checked
from speechpipe.serving.routing import Assignment
from speechpipe.serving.text import TextOptions
from speechpipe.types import Notice

PCM_RATE_HZ = 24_000
MIN_COMMIT_S = 0.1
"""A commit of less audio is an error, as in OpenAI's API."""


MOST_PROMPT = 64 * 1024
"""Characters of a prompt, as in an upload."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Pcm(_Part):
    """16-bit little-endian mono PCM."""

    type: Literal["audio/pcm"]
    rate: int = Field(PCM_RATE_HZ, ge=8000, le=48_000)


class Telephone(_Part):
    """G.711 at 8 kHz."""

    type: Literal["audio/pcmu", "audio/pcma"]


class Transcription(_Part):
    """The bundle (`model`, as in uploads), language, prompt, and (ours) hotwords and how the text is written."""

    model: str | None = None
    language: str | None = None
    prompt: str | None = Field(None, max_length=MOST_PROMPT)
    hotwords: list[str] | None = None
    punctuate: bool | None = None
    numerals: bool | None = None
    smart_format: bool | None = None
    profanity_filter: bool | None = None

    @property
    def text(self) -> TextOptions:
        """How the text is written."""
        return TextOptions(self.punctuate, bool(self.numerals), bool(self.smart_format), bool(self.profanity_filter))

    @property
    def terms(self) -> tuple[str, ...]:
        """The hotwords.

        Raises:
            InvalidParameter: they are too many or too long.
        """
        return checked(self.hotwords or (), "hotwords")


class TurnDetection(ServerVad):
    """Turn detection as in uploads. Fields that concern responses are accepted and have no effect."""

    idle_timeout_ms: int | None = Field(None, ge=1000, le=3_600_000)
    create_response: bool | None = None
    interrupt_response: bool | None = None


class AudioInput(_Part):
    """The settings of the audio input."""

    format: Annotated[Pcm | Telephone, Field(discriminator="type")] = Pcm(type="audio/pcm")
    transcription: Transcription | None = Transcription()
    turn_detection: TurnDetection | None = TurnDetection(type="server_vad")
    noise_reduction: dict[str, Any] | None = None


class _Audio(_Part):
    input: AudioInput = AudioInput()


class Session(_Part):
    """A transcription session."""

    type: Literal["transcription"] = "transcription"
    audio: _Audio = _Audio()
    include: list[Literal["item.input_audio_transcription.logprobs"]] | None = None

    @property
    def input(self) -> AudioInput:
        """The audio input."""
        return self.audio.input

    @property
    def manual(self) -> bool:
        """Whether the client decides where segments end."""
        return self.input.turn_detection is None

    @property
    def wire(self) -> WireFormat:
        """The format of the incoming audio."""
        if isinstance(self.input.format, Pcm):
            return WireFormat("linear16", self.input.format.rate)
        return WireFormat({"audio/pcmu": "mulaw", "audio/pcma": "alaw"}[self.input.format.type], 8000)

    @property
    def notices(self) -> list[Notice]:
        """Notices of settings that have no effect."""
        reduction = Notice("parameter_ignored", "noise_reduction was not honoured")
        return [reduction] if self.input.noise_reduction else []

    @property
    def transcription(self) -> Transcription:
        """What is asked of the recognizer."""
        return self.input.transcription or Transcription()

    def choice(self, pin: Assignment) -> Choice:
        """Return the bundle and arm for this session, with its parameters.

        Raises:
            UnknownName: there is no such model.
            InvalidParameter: a parameter is out of bounds.
        """
        detection = self.input.turn_detection
        return pin.choose(self.transcription.model or "default", detection.changes() if detection else None)

    def updated(self, changes: Any) -> "Session":
        """Return this session with the given parts replaced; parts that are not named stay unchanged.

        Raises:
            InvalidParameter: the changes are invalid; the message names the part.
        """
        if not isinstance(changes, dict):
            raise InvalidParameter("session must be an object", param="session")
        try:
            found = Session.model_validate(_merged(json.loads(self.model_dump_json()), changes))
            _ = found.transcription.terms
        except InvalidParameter as error:
            path = f"session.audio.input.transcription.{error.param}"
            raise InvalidParameter(error.message, param=path, cause=error.cause) from error
        except ValidationError as error:
            wrong = as_parameter(error)
            path = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise InvalidParameter(wrong.message, param=f"session.{path}", cause=wrong.cause) from error
        return found


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return `old` updated by `new`, recursively; an object whose `type` changes is replaced."""
    merged = dict(old)
    for key, value in new.items():
        before = old.get(key)
        if (
            isinstance(before, dict)
            and isinstance(value, dict)
            and before.get("type") == value.get("type", before.get("type"))
        ):
            merged[key] = _merged(before, value)
        else:
            merged[key] = value
    return merged
