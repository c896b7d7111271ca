"""The query parameters of `WS /v1/listen`: Deepgram's names, validated and converted to a live request."""

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, ValidationError
from starlette.datastructures import QueryParams

from speechpipe.cascade.audio.wire_format import WireFormat
from speechpipe.errors import InvalidParameter
from speechpipe.interfaces.api.openai.form import as_parameter
from speechpipe.serving.biasing import checked
from speechpipe.serving.text import TextOptions
from speechpipe.types import Notice, Scalar

LEAST_ENDPOINTING_MS = 100
"""Deepgram's own default is 10 ms; segments that end at every breath would be transcribed far worse here."""

IGNORED = frozenset(
    [
        "callback_method",
        "detect_entities",
        "diarize",
        "diarize_model",
        "dictation",
        "diarize_version",
        "filler_words",
        "language_hint",
        "mip_opt_out",
        "multichannel_model",
        "no_delay",
        "replace",
        "search",
        "version",
    ]
)
"""Accepted with a warning: they have no effect."""

REFUSED = {
    "callback": "results are sent on this connection only",
    "redact": "redaction is not supported, and text that should have been redacted must not appear",
}
ALIASES = {"ogg-opus": "opus"}
LISTS = ("tag", "extra", "keyterm", "keywords")


def _number_or_off(value: Any) -> Any:
    if isinstance(value, str):
        return {"false": False, "true": True}.get(
            value, int(value) if value.isascii() and value.isdigit() and len(value) < 19 else value
        )
    return value


class ListenQuery(BaseModel):
    """The query parameters of a connection."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field("default", min_length=1, max_length=128)
    language: str | None = Field(None, max_length=35)
    encoding: str | None = None
    sample_rate: int | None = None
    channels: int = 1
    multichannel: bool = False
    interim_results: bool = False
    endpointing: Annotated[StrictBool | Annotated[StrictInt, Field(ge=0, le=5000)], BeforeValidator(_number_or_off)] = (
        True
    )
    utterance_end_ms: int | None = Field(None, ge=1000, le=60_000)
    vad_events: bool = False
    punctuate: bool | None = None
    numerals: bool = False
    smart_format: bool = False
    profanity_filter: bool = False
    tag: list[str] = []
    extra: list[str] = []
    keyterm: list[str] = []
    keywords: list[str] = []
    resume: str | None = None
    last_seq: int | None = Field(None, ge=0)
    user: str | None = Field(None, max_length=256)

    @property
    def wire(self) -> WireFormat:
        """The announced format of the audio.

        Raises:
            InvalidParameter: the format is not possible.
        """
        encoding = ALIASES.get(self.encoding or "", self.encoding)
        return WireFormat(encoding, self.sample_rate, self.channels, self.multichannel)

    @property
    def text(self) -> TextOptions:
        """How the client wants its text written."""
        return TextOptions(self.punctuate, self.numerals, self.smart_format, self.profanity_filter)

    @property
    def hotwords(self) -> tuple[str, ...]:
        """What `keyterm` and `keywords` say is likely to be spoken. A keyword may have an intensifier: `word:2`.

        Raises:
            InvalidParameter: they are too many or too long, or an intensifier is no number.
        """
        pairs = [_intensified(word) for word in self.keywords]
        checked([word for word, _ in pairs], "keywords")
        words = [word for word, intensifier in pairs if intensifier > 0]
        return checked([*self.keyterm, *words], "keyterm" if self.keyterm else "keywords")

    @property
    def not_honoured(self) -> list[Notice]:
        """Notices about intensifiers of keywords: recognizers know no degrees, and cannot avoid a word."""
        intensifiers = {_intensified(word)[1] for word in self.keywords}
        found = []
        if any(value > 0 and value != 1 for value in intensifiers):
            found.append(Notice("parameter_ignored", "intensifiers of keywords were not honoured: all count alike"))
        if any(value <= 0 for value in intensifiers):
            found.append(Notice("parameter_ignored", "keywords whose intensifier is not above 0 were left out"))
        return found

    @property
    def endpoint_ms(self) -> int | None:
        """The silence that ends a segment, in milliseconds, if the client chose one."""
        return None if isinstance(self.endpointing, bool) else max(self.endpointing, LEAST_ENDPOINTING_MS)


def parse(query: QueryParams) -> tuple[ListenQuery, dict[str, Scalar], tuple[Notice, ...]]:
    """Return the query, changes of the bundle's parameters (`vad.NAME=value`), and notices of ignored parameters.

    Raises:
        InvalidParameter: a name is unknown, or a value is invalid.
    """
    values: dict[str, Any] = {}
    changes: dict[str, Scalar] = {}
    notices: list[Notice] = []
    for name, value in query.multi_items():
        if name in REFUSED:
            raise InvalidParameter(f"{name}: {REFUSED[name]}", param=name)
        if name in IGNORED:
            if value.lower() != "false":
                notices.append(Notice("parameter_ignored", f"{name} was not honoured"))
        elif name in LISTS:
            values.setdefault(name, []).append(value)
        elif name in values or name in changes:
            raise InvalidParameter(f"{name} is given twice", param=name, cause="repeated_parameter")
        elif name.startswith("vad."):
            changes[name] = _number(name, value)
        else:
            values[name] = value
    try:
        parsed = ListenQuery.model_validate(values)
    except ValidationError as error:
        raise as_parameter(error) from error
    notices += parsed.not_honoured
    if parsed.utterance_end_ms is not None and not parsed.interim_results:
        raise InvalidParameter("utterance_end_ms needs interim_results=true", param="utterance_end_ms")
    if (ms := parsed.endpoint_ms) is not None:
        changes["vad.min_silence_s"] = ms / 1000
        if ms != parsed.endpointing:
            notices.append(Notice("endpointing_raised", f"endpointing {parsed.endpointing} ms was raised to {ms} ms"))
    return parsed, changes, tuple(notices)


def _intensified(keyword: str) -> tuple[str, float]:
    """Return a keyword and its intensifier; 1 if it has none."""
    word, colon, number = keyword.rpartition(":")
    if not colon:
        return keyword, 1.0
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidParameter("keywords: an intensifier must be a number, as in word:2", param="keywords")
    return word, value


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise InvalidParameter(f"{name} must be a number, not {value!r}", param=name) from error


def extras(query: ListenQuery) -> dict[str, str]:
    """Return `extra=key:value` items as a dictionary, as Deepgram returns them."""
    return {key: value for key, _, value in (item.partition(":") for item in query.extra)}
