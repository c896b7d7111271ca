"""The exceptions of this package, and the HTTP statuses and websocket close codes they map to.

SpeechpipeError
├── BadInput                  the request is wrong; the caller can correct it
│   ├── InvalidParameter      a field, query value or option is wrong
│   ├── UnknownName           no such bundle, VAD or recognizer
│   ├── EmptyAudio            no bytes, or bytes that hold no samples
│   ├── UndecodableAudio      not audio, or a format that cannot be read here
│   ├── TooLarge              too many bytes, or too many decoded seconds
│   ├── TooSlow               the upload did not arrive in time
│   └── WrongContentType      the route does not accept the body's content type
├── Conflict                  the resource's state does not allow the operation
├── NotAnswered               a person had to answer, and none could
├── Unauthorized              missing or wrong key
├── Forbidden                 a page of another origin sent a request that is not allowed from there
├── Misdirected               the request names a host that this server does not answer for
├── RateLimited               this caller has too many requests in progress
├── Overloaded                the server has too much work
├── NotReady                  models are not loaded yet, or the server is shutting down
├── StoreUnavailable          the store cannot be read or written now
├── FetchFailed               weights cannot be fetched now
├── DeliveryFailed            a callback or webhook did not reach its receiver
├── NoSpace                   the disk is full
├── TrainingFailed            a training could not produce a model
├── ClientGone                the client closed the connection before the answer
└── StageFailed               a stage of the cascade failed
    └── WorkerLoadFailed      a worker could not load its recognizer

`HTTP_STATUS` maps errors to HTTP statuses, `CLOSE_CODE` to websocket close codes (RFC 6455 and its registry). There
are no other such tables. A test checks that every class is in the first one.
"""

from collections.abc import Mapping, Sequence
from typing import Self

__all__ = [
    "CLOSE_CODE",
    "HTTP_STATUS",
    "BadInput",
    "ClientGone",
    "Conflict",
    "DeliveryFailed",
    "EmptyAudio",
    "FetchFailed",
    "Forbidden",
    "InvalidParameter",
    "Misdirected",
    "NoSpace",
    "NotAnswered",
    "NotReady",
    "Overloaded",
    "RateLimited",
    "SpeechpipeError",
    "StageFailed",
    "StoreUnavailable",
    "TooLarge",
    "TooSlow",
    "TrainingFailed",
    "Unauthorized",
    "UndecodableAudio",
    "UnknownName",
    "WorkerLoadFailed",
    "WrongContentType",
    "error_row",
    "reason_of",
]


class SpeechpipeError(Exception):
    """Base of all errors that this package raises deliberately.

    Attributes:
        cause: a short stable word: the `code` of the error body and the label of the error counter.
        message: one sentence for the caller.
        param: the parameter that is wrong, if it is one.
        steps: further lines for a person at a terminal: what to do about it.
    """

    cause = "internal_error"
    steps: tuple[str, ...] = ()

    def __init__(self, message: str, *, cause: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if cause is not None:
            self.cause = cause

    def advise(self, steps: Sequence[str]) -> Self:
        """Set `steps`; return the error."""
        self.steps = tuple(steps)
        return self


class BadInput(SpeechpipeError):
    """The request is wrong; sending it again unchanged fails again."""

    cause = "bad_input"


class InvalidParameter(BadInput):
    """A parameter has an unknown name, a wrong type or a value out of bounds."""

    cause = "invalid_parameter"


class UnknownName(BadInput):
    """No bundle, VAD or recognizer has this name. The message lists those that exist."""

    cause = "model_not_found"


class EmptyAudio(BadInput):
    """The upload has no bytes, or decodes to zero samples."""

    cause = "empty_audio"


class UndecodableAudio(BadInput):
    """The bytes are not audio in a supported format."""

    cause = "undecodable_audio"


class TooLarge(BadInput):
    """More bytes or more decoded seconds than the limit."""

    cause = "too_large"


class TooSlow(BadInput):
    """The body of a request did not arrive within its time limit."""

    cause = "upload_timeout"


class WrongContentType(BadInput):
    """The `Content-Type` of the body is missing, or not accepted by the route."""

    cause = "unsupported_content_type"


class Conflict(SpeechpipeError):
    """The resource's state does not allow the operation, or another caller has changed it in the meantime."""

    cause = "conflict"


class NotAnswered(SpeechpipeError):
    """An upload that a person had to answer got no answer: its audio expired, or several reviewers skipped it."""

    cause = "nobody_could"


class Unauthorized(SpeechpipeError):
    """The key is missing or unknown."""

    cause = "invalid_api_key"


class Forbidden(SpeechpipeError):
    """The `Origin` header names an origin that is not allowed."""

    cause = "origin_not_allowed"


class Misdirected(SpeechpipeError):
    """The `Host` header names neither this server nor a host in `ALLOWED_HOSTS`; protects against DNS rebinding."""

    cause = "host_not_allowed"


class RateLimited(SpeechpipeError):
    """This caller already has its maximum of requests in progress."""

    cause = "rate_limit_exceeded"
    retry_after_s = 1.0


class Overloaded(SpeechpipeError):
    """The server already has as much work as it can finish in time."""

    cause = "overloaded"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotReady(SpeechpipeError):
    """The recognizers are still loading, or the server is shutting down."""

    cause = "not_ready"
    retry_after_s = 2.0


class StoreUnavailable(SpeechpipeError):
    """The store cannot be read or written now; transcription continues without it."""

    cause = "store_unavailable"
    retry_after_s = 5.0


class FetchFailed(SpeechpipeError):
    """Weights cannot be fetched now. The part that arrived is kept, and the next attempt resumes there."""

    cause = "fetch_failed"


class DeliveryFailed(SpeechpipeError):
    """A POST to a receiver of callbacks or alarms failed. Never returned to a client."""

    cause = "delivery_failed"


class TrainingFailed(SpeechpipeError):
    """A training could not produce a model, for example because its loss is not finite. The old model is unchanged."""

    cause = "training_failed"


class NoSpace(SpeechpipeError):
    """The disk has no room for an upload or a checkpoint. Small uploads stay in memory and are still accepted."""

    cause = "no_space"
    retry_after_s = 60.0


class ClientGone(SpeechpipeError):
    """The client closed the connection; its work in progress is cancelled and counted."""

    cause = "client_gone"


class StageFailed(SpeechpipeError):
    """A stage of the cascade failed. Raised instead of returning an empty result, which would look like silence."""

    cause = "stage_failed"

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(f"{stage}: {message}", cause=f"{stage}_failed")
        self.stage = stage


class WorkerLoadFailed(StageFailed):
    """A worker process could not load its recognizer."""


HTTP_STATUS: dict[type[SpeechpipeError], int] = {
    SpeechpipeError: 500,
    BadInput: 400,
    InvalidParameter: 400,
    UnknownName: 404,
    EmptyAudio: 400,
    UndecodableAudio: 415,
    TooLarge: 413,
    TooSlow: 408,
    WrongContentType: 415,
    Conflict: 409,
    NotAnswered: 410,
    Unauthorized: 401,
    Forbidden: 403,
    Misdirected: 421,
    RateLimited: 429,
    Overloaded: 503,
    NotReady: 503,
    StoreUnavailable: 503,
    FetchFailed: 502,
    DeliveryFailed: 502,
    NoSpace: 507,
    TrainingFailed: 500,
    ClientGone: 499,  # never reaches the client; the status that access logs use for it
    StageFailed: 500,
    WorkerLoadFailed: 503,
}

CLOSE_CODE: dict[type[SpeechpipeError], int] = {
    SpeechpipeError: 1011,
    BadInput: 1008,
    TooSlow: 1011,  # the client sends neither audio nor KeepAlive, or does not read
    Unauthorized: 1008,
    Forbidden: 1008,
    RateLimited: 1013,
    Overloaded: 1013,
    NotReady: 1013,
    ClientGone: 1001,
}


def error_row(error: SpeechpipeError, table: Mapping[type[SpeechpipeError], int]) -> int:
    """Return the table's value for an error: that of its class, or of its nearest base class in the table."""
    return next(table[kind] for kind in type(error).__mro__ if kind in table)


def reason_of(error: Exception) -> str:
    """Return an error's text for a message that already names the file: without the name that OSError adds."""
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error)
