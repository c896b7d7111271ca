"""Errors in the format of OpenAI's API, `{"error": {message, type, param, code}}`; at `/v1/listen` in Deepgram's."""

import errno
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from speechpipe.cascade.request import new_session_id
from speechpipe.errors import (
    HTTP_STATUS,
    BadInput,
    NoSpace,
    Overloaded,
    SpeechpipeError,
    StoreUnavailable,
    error_row,
    reason_of,
)
from speechpipe.serving.service import Service

log = logging.getLogger(__name__)

SPENT = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}
"""Errors of the operating system that pass when other requests release resources."""

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

STORE_TEXT = "the store cannot be used now; try again later"
"""What clients see of a store failure: its own text names hosts, ports and files, and is only logged."""

DEEPGRAM_PATH = "/v1/listen"


def body(message: str, status: int, param: str | None, code: str | None) -> dict[str, Any]:
    """Return the body of an error."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def public_text(error: SpeechpipeError) -> str:
    """Return the text of an error that a client may see."""
    return STORE_TEXT if isinstance(error, StoreUnavailable) else error.message


def shown_failure(failure: str) -> str:
    """Return the text of a background failure that a client may see; the log has the whole text."""
    return "a part of the server is failing, such as the store; see the server's log" if failure else ""


def error_body(error: SpeechpipeError) -> dict[str, Any]:
    """Return the body of a `SpeechpipeError`."""
    return body(public_text(error), error_row(error, HTTP_STATUS), error.param, error.cause)


def headers_of(error: SpeechpipeError) -> Mapping[str, str]:
    """Return the headers of an answer with this error."""
    headers = {"WWW-Authenticate": "Bearer"} if error_row(error, HTTP_STATUS) == 401 else {}
    if (seconds := getattr(error, "retry_after_s", None)) is not None:
        headers["Retry-After"] = str(max(1, round(seconds)))
    return headers


def response(error: SpeechpipeError, path: str) -> Response:
    """Return an error in the format of a path's clients; failures of the server that nothing else logs are logged."""
    status = error_row(error, HTTP_STATUS)
    logged = status == 503 or isinstance(error, NoSpace) or error.cause == "internal_error"
    if isinstance(error, StoreUnavailable) or (status >= 500 and not logged):
        log.error("%s: %s", error.cause, error.message)
    found = error_body(error)
    if path == DEEPGRAM_PATH:
        message = found["error"]["message"]
        found = {"err_code": error.cause.upper(), "err_msg": message, "request_id": new_session_id()}
    return JSONResponse(found, status, dict(headers_of(error)))


def unforeseen(error: Exception) -> SpeechpipeError:
    """Return the error that a client gets for an unexpected exception."""
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return NoSpace("there is no space on the server's disk for this upload")
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in SPENT):
        return Overloaded("the server has run out of memory, descriptors or processes", retry_after_s=5.0)
    return SpeechpipeError("internal error")


def log_unforeseen(found: SpeechpipeError, error: Exception, where: str) -> None:
    """Log an exception and the error that a client gets for it.

    What the machine lacks is one line: every request of a busy moment may fail by it. A defect has its traceback.
    """
    if found.cause == SpeechpipeError.cause:
        log.error("unexpected error in %s", where, exc_info=error)
    else:
        reason = reason_of(error) or type(error).__name__
        log.warning("%s: %s (%s in %s)", found.cause, found.message, reason, where)


def frameworks(error: HTTPException, service: Service) -> Response:
    """Return an error of the framework in the same format, and count it."""
    cause = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
    service.refuse(BadInput(str(error.detail), cause=cause))
    return JSONResponse(body(str(error.detail), error.status_code, None, cause), error.status_code, error.headers)


def install(app: FastAPI, service: Service) -> None:
    """Install handlers that give the framework's errors the same format; all others reach `edge.py`."""

    @app.exception_handler(HTTPException)
    def of_framework(_: Request, error: HTTPException) -> Response:
        return frameworks(error, service)

    @app.exception_handler(RequestValidationError)
    def validation(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        service.refuse(BadInput(first["msg"], cause="invalid_parameter"))
        return JSONResponse(body(first["msg"], 400, str(first["loc"][-1]), "invalid_parameter"), 400)
