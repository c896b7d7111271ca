"""The OpenAPI document: what FastAPI finds in the routes, completed by what they declare (`access.py`)."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from speechpipe.interfaces.api.access import READING, Body, Operation, Role
from speechpipe.interfaces.api.openai.form import UploadFields

SCHEME = "apiKey"

SECURITY_SCHEMES = {
    SCHEME: {
        "type": "http",
        "scheme": "bearer",
        "description": "A key of `API_KEYS`, `OPERATOR_KEYS` or `REVIEWER_KEYS`. A server without keys asks for none.",
    }
}

ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}

MEANINGS = {
    400: "The request is wrong; `code` and `param` say what.",
    401: "No key, or one that does not open this route.",
    403: "The page that sent this is of an origin that is not allowed.",
    404: "There is no such thing.",
    408: "The body did not arrive in time.",
    409: "It does not fit the state that things are in.",
    410: "It had an end: its audio is gone, or nobody could answer.",
    413: "The body is too large, or the audio too long.",
    415: "The body is of a type, or the audio in a format, that is not taken.",
    421: "This server does not answer for the host name that was asked.",
    429: "This key has as much in progress as one key may have.",
    500: "A stage of the cascade failed.",
    503: "Not now: overloaded, not ready, or the store cannot be used.",
    507: "The disk is full.",
}

OF_BODIES = {
    Body.NONE: (),
    Body.UPLOAD: (404, 408, 413, 415, 429, 500, 503, 507),
    **dict.fromkeys((Body.JSON, Body.PLAN, Body.ANSWER, Body.IMPORT), (408, 413, 415, 429, 503)),
}

REQUESTS: dict[Body, dict[str, Any]] = {
    Body.PLAN: {
        "application/toml": {"schema": {"type": "string", "description": "As `GET /v1/rollout/plan` gives it."}},
        "application/json": {"schema": {"type": "object", "description": "The same as an object."}},
    },
    Body.IMPORT: {
        "application/json": {
            "schema": {
                "type": "array",
                "items": {"type": "object"},
                "description": "An export of Label Studio (JSON).",
            }
        }
    },
    Body.UPLOAD: {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file", "model"],
                "properties": {
                    "file": {"type": "string", "format": "binary"},
                    **UploadFields.model_json_schema(ref_template="#/components/schemas/{model}")["properties"],
                },
            }
        }
    },
}


def completed(document: dict[str, Any], operations: Sequence[Operation]) -> dict[str, Any]:
    """Return FastAPI's document with security, every status, and the bodies that routes read themselves."""
    components = document.setdefault("components", {})
    components["securitySchemes"] = SECURITY_SCHEMES
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)  # such errors have the shape of all others here
    schemas["Error"] = ERROR
    schemas |= UploadFields.model_json_schema(ref_template="#/components/schemas/{model}").get("$defs", {})
    for operation in operations:
        for method in operation.methods if operation.shown else ():
            _complete(document["paths"][operation.template][method.lower()], operation)
    return document


def statuses(operation: Operation) -> set[int]:
    """Return the statuses of errors that a route can answer with."""
    found = {400, 421, *operation.access.statuses, *OF_BODIES[operation.access.body]}
    if operation.access.role is not Role.OPEN:
        found.add(401)
    if not operation.methods <= READING:
        found.add(403)
    return found


def _complete(shown: dict[str, Any], operation: Operation) -> None:
    declared = operation.access
    shown["security"] = [] if declared.role is Role.OPEN else [{SCHEME: []}]
    shown["x-speechpipe-role"] = declared.role.value
    responses = shown["responses"]
    responses.pop("422", None)
    errors = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for status in sorted(statuses(operation)):
        text = MEANINGS.get(status, HTTPStatus(status).phrase)
        responses.setdefault(str(status), {"description": text, "content": errors})
    if (content := REQUESTS.get(declared.body)) is not None:
        shown["requestBody"] = {"required": True, "content": content}
