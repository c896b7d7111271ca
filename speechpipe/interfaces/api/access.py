"""Who may call a route and what it takes: declared beside each endpoint, held by `gate.py`, written into OpenAPI."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute

from speechpipe.config import Settings
from speechpipe.control.review.task_repository import Reviewer
from speechpipe.foundation.tenants import ANONYMOUS
from speechpipe.interfaces.api import auth

READING = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


class Role(StrEnum):
    """Which keys open a route. Without keys in the settings, all of them are open."""

    OPEN = "open"  # no key: pages, probes, metrics
    CALLER = "caller"  # an API key; the caller is a tenant
    READER = "reader"  # an API key or an operator's
    REVIEWER = "reviewer"  # an API key for its own tenant, a reviewer's or an operator's for all
    OPERATOR = "operator"  # an operator's key; where there are none, an API key


@dataclass(frozen=True)
class BodyRule:
    """What the body of a request may be.

    Attributes:
        kind: `none`, `upload` (read by the route itself, within its own limits) or `document` (read before the route).
        types: media types that are taken; empty = any.
        most_bytes: longest body.
        most_values: upper bound of values in a JSON document, so that a short text cannot become much memory.
        most_at_once: bodies of this rule that may be arriving at the same time.
    """

    kind: str = "none"
    types: tuple[str, ...] = ()
    most_bytes: int = 0
    most_values: int = 0
    most_at_once: int = 64


class Body(Enum):
    """The kinds of bodies."""

    NONE = BodyRule()
    UPLOAD = BodyRule("upload")
    JSON = BodyRule("document", ("application/json",), 64 * 1024, 10_000)
    PLAN = BodyRule("document", ("application/toml", "application/json"), 64 * 1024, 10_000)
    ANSWER = BodyRule("document", ("application/json",), 2**20, 200_000)  # a review of hours of speech
    IMPORT = BodyRule("document", ("application/json",), 8 * 2**20, 400_000, most_at_once=2)


@dataclass(frozen=True)
class Access:
    """What a route declares.

    Attributes:
        role: which keys open it.
        body: what its body may be.
        statuses: of errors of its own, beside those that every route of its kind has.
    """

    role: Role
    body: Body = Body.NONE
    statuses: tuple[int, ...] = ()


def access(role: Role, *statuses: int, body: Body = Body.NONE) -> Callable[[Endpoint], Endpoint]:
    """Declare who may call an endpoint, what its body may be, and with which errors it answers."""

    def declare(endpoint: Endpoint) -> Endpoint:
        endpoint.__dict__["access"] = Access(role, body, statuses)
        return endpoint

    return declare


@dataclass(frozen=True)
class Operation:
    """An HTTP route with what it declares.

    Attributes:
        pattern: matches the paths of the route.
        template: its path as OpenAPI writes it.
        methods: its methods.
        access: what it declares.
        shown: whether the document lists it.
    """

    pattern: re.Pattern[str]
    template: str
    methods: frozenset[str]
    access: Access
    shown: bool


def also(*types: str) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that answers 200 with one of these media types, beside JSON."""
    content = {kind: {"schema": {"type": "string"}} for kind in types}
    return {200: {"description": "In the format that was asked for.", "content": content}}


def operations_of(routers: Sequence[APIRouter]) -> list[Operation]:
    """Return every HTTP route, in the order in which paths are looked up.

    Raises:
        ValueError: a route declares nothing.
    """
    found = []
    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute):
                declared = getattr(route.endpoint, "access", None)
                methods = frozenset(route.methods or ())
                if not isinstance(declared, Access):
                    raise ValueError(f"{sorted(methods)} {route.path} declares no access")
                found.append(Operation(route.path_regex, route.path_format, methods, declared, route.include_in_schema))
    return found


def at_path(operations: Sequence[Operation], path: str) -> list[Operation]:
    """Return the operations at a path: those that name it, else those whose template it fits."""
    return [item for item in operations if item.template == path] or [
        item for item in operations if item.pattern.match(path)
    ]


def allowed(operations: Sequence[Operation]) -> str:
    """Return the methods of the operations at a path as an `Allow` header has them."""
    methods = {method for item in operations for method in item.methods} | {"OPTIONS"}
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))


def identify(role: Role, authorization: str | None, settings: Settings) -> Reviewer:
    """Return who calls: a name for histories, and the tenant whose data it may see (None: everybody's).

    Raises:
        Unauthorized: keys are set and this is none of them, or not one that opens routes of this role.
    """
    if role is Role.OPEN:
        return Reviewer(ANONYMOUS)
    if role is Role.REVIEWER:
        return auth.reviewer(authorization, settings)
    keys = settings.api_keys
    if role is Role.OPERATOR:
        keys = settings.operator_keys or settings.api_keys
    elif role is Role.READER:
        keys = [*settings.api_keys, *settings.operator_keys] if settings.api_keys else []
    name = auth.caller(authorization, keys)
    return Reviewer(name, name)


async def who(request: Request) -> Reviewer:
    """Return who calls, as the gate has found: a dependency, asynchronous because others are run on a thread."""
    found: Reviewer = request.state.who
    return found


async def name(request: Request) -> str:
    """Return the name of who calls: a dependency. For routes of the role `caller` that is the tenant."""
    found: Reviewer = request.state.who
    return found.name
