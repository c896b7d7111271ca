"""The OpenAPI document: FastAPI's description of the routes, completed by their access rules (`access.py`)."""

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
        "description": "A key of `API_KEYS`, `OPERATOR_KEYS` or `REVIEWER_KEYS`. Not needed if none are configured.",
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
    400: "The request is invalid; `code` and `param` say why.",
    401: "The key is missing, or does not give access to this route.",
    403: "The request was sent by a page whose origin is not allowed.",
    404: "There is no such object.",
    408: "The body did not arrive in time.",
    409: "The state of the resource does not allow it.",
    410: "There will be no answer: the audio was deleted, or no reviewer could answer.",
    413: "The body is too large, or the audio too long.",
    415: "The type of the body, or the format of the audio, is not supported.",
    421: "This server does not answer for the requested host name.",
    429: "This key has reached its limit of requests in progress.",
    500: "A stage of the cascade failed.",
    503: "The server is overloaded or not ready, or the store cannot be used; try again later.",
    507: "The disk is full.",
}

OF_BODIES = {
    Body.NONE: (),
    Body.UPLOAD: (404, 408, 413, 415, 429, 500, 503, 507),
    **dict.fromkeys((Body.JSON, Body.PLAN, Body.ANSWER, Body.IMPORT), (408, 413, 415, 429, 503)),
}

REQUESTS: dict[Body, dict[str, Any]] = {
    Body.PLAN: {
        "application/toml": {"schema": {"type": "string", "description": "As returned by `GET /v1/rollout/plan`."}},
        "application/json": {"schema": {"type": "object", "description": "The same plan as a JSON object."}},
    },
    Body.IMPORT: {
        "application/json": {
            "schema": {
                "type": "array",
                "items": {"type": "object"},
                "description": "A Label Studio export (JSON).",
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
    """Return FastAPI's document with security, all statuses, and the bodies that routes read themselves."""
    components = document.setdefault("components", {})
    components["securitySchemes"] = SECURITY_SCHEMES
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)  # such errors have the common format
    schemas["Error"] = ERROR
    schemas |= UploadFields.model_json_schema(ref_template="#/components/schemas/{model}").get("$defs", {})
    for operation in operations:
        for method in operation.methods if operation.shown else ():
            _complete(document["paths"][operation.template][method.lower()], operation)
    return document


def statuses(operation: Operation) -> set[int]:
    """Return the error statuses that a route can answer with."""
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
