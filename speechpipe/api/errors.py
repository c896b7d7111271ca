"""Errors as clients of OpenAI's API expect them: `{"error": {message, type, param, code}}`."""

import errno
import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from speechpipe.errors import HTTP_STATUS, BadInput, NoSpace, SpeechpipeError, error_row
from speechpipe.service import Service

log = logging.getLogger(__name__)

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

TYPES = {401: "authentication_error", 429: "rate_limit_error"}


def body(message: str, status: int, param: str | None, code: str | None) -> dict[str, Any]:
    """Return an error body."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_body(error: SpeechpipeError) -> dict[str, Any]:
    """Return the body of one of our errors."""
    return body(error.message, error_row(error, HTTP_STATUS), error.param, error.cause)


def install(app: FastAPI, service: Service) -> None:
    """Answer every error of `app` in that shape, and count it by cause."""

    @app.exception_handler(SpeechpipeError)
    def ours(_: Request, error: SpeechpipeError) -> Response:
        service.refuse(error)
        status = error_row(error, HTTP_STATUS)
        if status >= 500 and status != 503:
            log.error("%s: %s", error.cause, error.message)
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        if (seconds := getattr(error, "retry_after_s", None)) is not None:
            headers["Retry-After"] = str(max(1, round(seconds)))
        return JSONResponse(error_body(error), status, headers)

    @app.exception_handler(OSError)
    def systems(request: Request, error: OSError) -> Response:
        if error.errno in DISK_FULL:
            return ours(request, NoSpace("there is no room on the server's disk for this upload"))
        return unexpected(request, error)

    @app.exception_handler(HTTPException)
    def frameworks(_: Request, error: HTTPException) -> Response:
        cause = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        service.refuse(BadInput(str(error.detail), cause=cause))
        return JSONResponse(body(str(error.detail), error.status_code, None, cause), error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    def validation(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        service.refuse(BadInput(first["msg"], cause="invalid_parameter"))
        return JSONResponse(body(first["msg"], 400, str(first["loc"][-1]), "invalid_parameter"), 400)

    @app.exception_handler(Exception)
    def unexpected(_: Request, error: Exception) -> Response:
        # The last handler: what it says to the client is that it is ours, what happened is in the log.
        log.error("unexpected error", exc_info=error)
        service.refuse(SpeechpipeError("unexpected"))
        return JSONResponse(body("internal error", 500, None, "internal_error"), 500)
