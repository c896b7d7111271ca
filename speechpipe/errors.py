"""The exception tree, drawn whole:

SpeechpipeError
├── BadInput                  the caller can mend it
│   ├── InvalidParameter      a field, query value or option is wrong
│   ├── UnknownName           no such bundle, VAD or recognizer
│   ├── EmptyAudio            no bytes, or bytes that hold no samples
│   ├── UndecodableAudio      not audio that we can read
│   ├── TooLarge              too many bytes, or too many decoded seconds
│   ├── TooSlow               the upload did not arrive in time
│   └── WrongContentType      the body is of another type than the route takes
├── Conflict                     it cannot be done in the state that things are in
├── NotAnswered               nobody could answer what only a person may
├── Unauthorized              missing or wrong key
├── Forbidden                 a page of another origin asks for something that a page may not
├── Misdirected               the request names a host that this server does not answer for
├── RateLimited               this caller has too much at once
├── Overloaded                the server has too much at once
├── NotReady                  models not loaded, or shutting down
├── StoreUnavailable          the records cannot be read or written now
├── FetchFailed               weights cannot be fetched now
├── DeliveryFailed            a callback or webhook did not reach its receiver
├── NoSpace                   the disk is full
├── TrainingFailed            nothing can be learnt from this: the loss is not finite
├── ClientGone                the caller left before the answer
└── StageFailed               a stage of the cascade broke: never shown as silence
    └── WorkerLoadFailed      a recognizer could not be loaded

`HTTP_STATUS` and `CLOSE_CODE` are the only tables from errors to HTTP statuses and websocket close codes (RFC 6455
and its registry); a test holds that no class is missing.
"""

from collections.abc import Mapping

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
    "said",
]


class SpeechpipeError(Exception):
    """Base of all errors that this package raises on purpose.

    `cause` is a short stable word: the `code` of the error body and the label of the counter.
    """

    cause = "internal_error"

    def __init__(self, message: str, *, cause: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if cause is not None:
            self.cause = cause


class BadInput(SpeechpipeError):
    """The request is at fault; sending it again unchanged fails again."""

    cause = "bad_input"


class InvalidParameter(BadInput):
    """A parameter has an unknown name, a wrong type or a value out of its bounds."""

    cause = "invalid_parameter"


class UnknownName(BadInput):
    """No bundle, VAD or recognizer has this name. The message lists those that exist."""

    cause = "model_not_found"


class EmptyAudio(BadInput):
    """The upload has no bytes, or decodes to no samples."""

    cause = "empty_audio"


class UndecodableAudio(BadInput):
    """The bytes are not audio in any format that can be read here."""

    cause = "undecodable_audio"


class TooLarge(BadInput):
    """More bytes or more decoded seconds than the limit."""

    cause = "too_large"


class TooSlow(BadInput):
    """The body of an upload did not arrive within its time."""

    cause = "upload_timeout"


class WrongContentType(BadInput):
    """The `Content-Type` of the body is missing, or not one that the route takes."""

    cause = "unsupported_content_type"


class Conflict(SpeechpipeError):
    """What is asked does not fit the state: a rollout is under way, none is, or somebody else was faster."""

    cause = "conflict"


class NotAnswered(SpeechpipeError):
    """An upload waited for a person in vain: its audio is gone, or several people could not do it."""

    cause = "nobody_could"


class Unauthorized(SpeechpipeError):
    """The key is missing or unknown."""

    cause = "invalid_api_key"


class Forbidden(SpeechpipeError):
    """A browser says that the request comes from a page of an origin that is not allowed."""

    cause = "origin_not_allowed"


class Misdirected(SpeechpipeError):
    """The `Host` header names neither this server nor anything in `ALLOWED_HOSTS` (DNS rebinding looks like this)."""

    cause = "host_not_allowed"


class RateLimited(SpeechpipeError):
    """This caller has as many requests in progress as one caller may have."""

    cause = "rate_limit_exceeded"
    retry_after_s = 1.0


class Overloaded(SpeechpipeError):
    """The server has as much work as it can finish in time."""

    cause = "overloaded"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotReady(SpeechpipeError):
    """The recognizers are still loading, or the server is shutting down."""

    cause = "not_ready"
    retry_after_s = 2.0


class StoreUnavailable(SpeechpipeError):
    """The store of records cannot be read or written now; transcription goes on without it."""

    cause = "store_unavailable"
    retry_after_s = 5.0


class FetchFailed(SpeechpipeError):
    """Weights cannot be fetched now; what came is kept, and the next attempt goes on from there."""

    cause = "fetch_failed"


class DeliveryFailed(SpeechpipeError):
    """A POST to a receiver of callbacks or alarms failed; never the answer to a client's request."""

    cause = "delivery_failed"


class TrainingFailed(SpeechpipeError):
    """A training came to nothing; what it was trained from is as it was."""

    cause = "training_failed"


class NoSpace(SpeechpipeError):
    """There is no room on the disk: for an upload (smaller ones stay in memory and are taken), or for a checkpoint."""

    cause = "no_space"
    retry_after_s = 60.0


class ClientGone(SpeechpipeError):
    """The caller hung up; what was in progress is dropped and counted."""

    cause = "client_gone"


class StageFailed(SpeechpipeError):
    """A stage broke. An error never looks like silence: this is raised instead of an empty result."""

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
    TooSlow: 1011,  # neither audio nor KeepAlive, or a client that does not read
    Unauthorized: 1008,
    Forbidden: 1008,
    RateLimited: 1013,
    Overloaded: 1013,
    NotReady: 1013,
    ClientGone: 1001,
}


def error_row(error: SpeechpipeError, table: Mapping[type[SpeechpipeError], int]) -> int:
    """Return an error's row: that of its class, or of the nearest one above that has one."""
    return next(table[kind] for kind in type(error).__mro__ if kind in table)


def said(error: Exception) -> str:
    """Return what an error says, for a sentence that names the file already: Python's OSErrors name it again."""
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error)
