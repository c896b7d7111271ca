"""The multipart fields of an upload: read within limits, validated and converted to a request."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.requests import ClientDisconnect

from speechpipe.config import Settings
from speechpipe.errors import BadInput, ClientGone, InvalidParameter, TooLarge
from speechpipe.foundation.text_files import parse_json
from speechpipe.interfaces.api.bodies import Pace, Stopping, check_text
from speechpipe.interfaces.api.openai.multipart import parse
from speechpipe.serving.biasing import checked, separated
from speechpipe.serving.text import TextOptions
from speechpipe.types import Scalar

MULTIPART_SLACK = 256 * 1024  # bytes for boundaries and the other fields
LISTS = ("timestamp_granularities", "include", "hotwords")
OBJECTS = ("chunking_strategy", "vad")


class ServerVad(BaseModel):
    """OpenAI's `server_vad` parameters; times are in milliseconds."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["server_vad"]
    threshold: float | None = None
    prefix_padding_ms: float | None = None
    silence_duration_ms: float | None = None

    def changes(self) -> dict[str, Scalar]:
        """Return them as changes of bundle parameters."""
        values = {
            "vad.threshold": self.threshold,
            "vad.pre_roll_s": None if self.prefix_padding_ms is None else self.prefix_padding_ms / 1000,
            "vad.min_silence_s": None if self.silence_duration_ms is None else self.silence_duration_ms / 1000,
        }
        return {name: value for name, value in values.items() if value is not None}


def _parsed(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            return parse_json(value)
        except ValueError as error:
            raise ValueError(f"not valid JSON: {error}") from error
    return value


class UploadFields(BaseModel):
    """The fields of an upload, except the file."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, max_length=128)
    language: str | None = Field(None, max_length=35)
    prompt: str | None = None
    hotwords: list[str] = Field([], description="Words and phrases that are likely to be spoken, also with commas.")
    temperature: float | None = Field(None, ge=0.0, le=1.0, allow_inf_nan=False)
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] = "json"
    timestamp_granularities: list[Literal["word", "segment"]] = []
    stream: bool = False
    chunking_strategy: Annotated[Literal["auto"] | ServerVad, BeforeValidator(_parsed)] = "auto"
    include: list[Literal["logprobs"]] = []
    channel: int | None = Field(None, ge=0)
    multichannel: bool = False
    track: int | None = Field(None, ge=0, description="Which audio track, 0-based; by default, the default track.")
    vad: Annotated[dict[str, float], BeforeValidator(_parsed)] = {}
    punctuate: bool | None = Field(None, description="false: lower case without punctuation.")
    numerals: bool = Field(False, description="English numbers in digits.")
    smart_format: bool = Field(False, description="English numbers, money, times, phone numbers as usually written.")
    profanity_filter: bool = Field(False, description="Mask offensive words.")
    callback: str = Field("", description="A URL to call when a reviewer has answered, if one must.")

    @property
    def terms(self) -> tuple[str, ...]:
        """The hotwords.

        Raises:
            InvalidParameter: they are too many or too long.
        """
        return checked(separated(self.hotwords), "hotwords")

    def check_together(self) -> None:
        """Check combinations of fields, and hotwords.

        Raises:
            InvalidParameter: a combination is invalid, or hotwords are too many or too long.
        """
        _ = self.terms
        if self.timestamp_granularities and self.response_format != "verbose_json":
            message = "timestamp_granularities need response_format verbose_json"
            raise InvalidParameter(message, param="timestamp_granularities")
        if self.include and self.response_format != "json":
            raise InvalidParameter("include[]=logprobs needs response_format json", param="include")
        if self.stream and self.multichannel:
            raise InvalidParameter(
                "stream cannot be combined with multichannel, because channels end at different times", param="stream"
            )
        if self.stream and self.response_format not in ("json", "text"):
            message = f"stream cannot be combined with response_format {self.response_format}"
            raise InvalidParameter(message, param="stream")

    @property
    def text(self) -> TextOptions:
        """How the client wants its text written."""
        return TextOptions(self.punctuate, self.numerals, self.smart_format, self.profanity_filter)

    @property
    def changes(self) -> dict[str, Scalar]:
        """The changes of VAD parameters in this request."""
        strategy = {} if isinstance(self.chunking_strategy, str) else self.chunking_strategy.changes()
        return strategy | {f"vad.{name}": value for name, value in self.vad.items()}


async def read_form(request: Request, settings: Settings, stopping: Stopping) -> tuple[UploadFile, UploadFields]:
    """Read the body within its limits of size and time, and validate every field. The caller closes the file.

    Raises:
        TooLarge, TooSlow, ClientGone, NotReady: the body did not arrive within its limits.
        BadInput, InvalidParameter: a field is invalid; the error names it.
    """
    most = settings.max_upload_bytes
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise BadInput("the body must be multipart/form-data", cause="not_multipart")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > most + MULTIPART_SLACK:
        raise _too_large(most)
    pace = Pace(
        most + MULTIPART_SLACK,
        settings.upload_timeout_s,
        settings.upload_min_rate,
        stopping,
        too_large=lambda: _too_large(most),
    )
    try:
        form = await parse(request.headers, Request(request.scope, pace.paced(request.receive)).stream())
    except ClientDisconnect as error:
        raise ClientGone("the client disconnected during the upload", cause="client_gone_in_upload") from error
    try:
        file, fields = _split(form)
        if (file.size or 0) > most:
            raise _too_large(most)
        fields.check_together()
    except BaseException:
        await form.close()
        raise
    return file, fields


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the upload is larger than {limit} bytes", cause="upload_too_large", param="file")


def _split(form: FormData) -> tuple[UploadFile, UploadFields]:
    values: dict[str, Any] = {}
    file: UploadFile | None = None
    for key, value in form.multi_items():
        if isinstance(value, UploadFile):
            if key != "file":
                raise InvalidParameter(f"unexpected file in field {key!r}", param=key)
            file = value
        else:
            check_text(key)
            check_text(value)
            _put(values, key, value)
    if file is None:
        raise InvalidParameter("the field `file` is missing or is not a file", param="file", cause="missing_file")
    try:
        return file, UploadFields.model_validate(values)
    except ValidationError as error:
        raise as_parameter(error) from error


def _put(values: dict[str, Any], key: str, value: str) -> None:
    """Store a field: `name`, `name[]` (a list) or `name[key]` (an object)."""
    name, bracket, inner = key.partition("[")
    if name in LISTS:
        values.setdefault(name, []).append(value)
    elif name in OBJECTS and bracket and inner.endswith("]"):
        target = values.setdefault(name, {})
        if not isinstance(target, dict) or inner[:-1] in target:
            raise InvalidParameter(f"{key} is given twice", param=name, cause="repeated_parameter")
        target[inner[:-1]] = value
    elif key in values:
        raise InvalidParameter(f"{key} is given twice", param=key, cause="repeated_parameter")
    else:
        values[key] = value


def as_parameter(error: ValidationError) -> InvalidParameter:
    """Return the first validation error, with the name of its field."""
    first: Mapping[str, Any] = error.errors()[0]
    param = str(first["loc"][0]) if first["loc"] else None
    causes = {"extra_forbidden": "unknown_parameter", "missing": "missing_parameter"}
    cause = causes.get(first["type"], InvalidParameter.cause)
    detail = "unknown parameter" if cause == "unknown_parameter" else str(first["msg"])
    where = ".".join(str(part) for part in first["loc"])
    return InvalidParameter(f"{where}: {detail}", param=param, cause=cause)
