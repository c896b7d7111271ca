"""Access rules of routes: declared beside each endpoint, enforced by `gate.py`, shown in the OpenAPI document."""

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
    """Which keys a route accepts. A server without configured keys accepts every request."""

    OPEN = "open"  # no key: pages, probes, metrics
    CALLER = "caller"  # an API key; the caller is a tenant
    READER = "reader"  # an API key or an operator's
    REVIEWER = "reviewer"  # an API key for its own tenant; a reviewer's or operator's key for all tenants
    OPERATOR = "operator"  # an operator's key; without operator keys, an API key


@dataclass(frozen=True)
class BodyRule:
    """The limits of a request's body.

    Attributes:
        kind: `none`, `upload` (read by the route within its own limits) or `document` (read before the route runs).
        types: accepted media types; empty = any.
        most_bytes: the longest body.
        most_values: the most values in a JSON document, because a short text can take much memory when parsed.
        most_at_once: how many such bodies may be arriving at the same time.
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
    """The access rule of a route.

    Attributes:
        role: which keys it accepts.
        body: the limits of its body.
        statuses: its own error statuses, in addition to those of all routes of its kind.
    """

    role: Role
    body: Body = Body.NONE
    statuses: tuple[int, ...] = ()


def access(role: Role, *statuses: int, body: Body = Body.NONE) -> Callable[[Endpoint], Endpoint]:
    """Declare which keys an endpoint accepts, what its body may be, and its own error statuses."""

    def declare(endpoint: Endpoint) -> Endpoint:
        endpoint.__dict__["access"] = Access(role, body, statuses)
        return endpoint

    return declare


@dataclass(frozen=True)
class Operation:
    """An HTTP route with its access rule.

    Attributes:
        pattern: matches the paths of the route.
        template: its path in OpenAPI notation.
        methods: its methods.
        access: its access rule.
        shown: whether the OpenAPI document lists it.
    """

    pattern: re.Pattern[str]
    template: str
    methods: frozenset[str]
    access: Access
    shown: bool


def also(*types: str) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that can answer 200 in one of these media types, or in JSON."""
    content = {kind: {"schema": {"type": "string"}} for kind in types}
    return {200: {"description": "In the requested format.", "content": content}}


def operations_of(routers: Sequence[APIRouter]) -> list[Operation]:
    """Return every HTTP route, in the order of matching.

    Raises:
        ValueError: a route declares no access rule.
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
    """Return the operations at a path: those whose template equals it, else those whose pattern matches."""
    return [item for item in operations if item.template == path] or [
        item for item in operations if item.pattern.match(path)
    ]


def allowed(operations: Sequence[Operation]) -> str:
    """Return the methods of these operations for an `Allow` header."""
    methods = {method for item in operations for method in item.methods} | {"OPTIONS"}
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))


def identify(role: Role, authorization: str | None, settings: Settings) -> Reviewer:
    """Return the caller: a name for histories, and the tenant whose data it may see (None: all tenants).

    Raises:
        Unauthorized: keys are configured, and this is none of those that the role accepts.
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
    """Return the caller that the gate has identified. A dependency; async, because sync ones run on a thread."""
    found: Reviewer = request.state.who
    return found


async def name(request: Request) -> str:
    """Return the caller's name. A dependency. For the role `caller` it is the tenant."""
    found: Reviewer = request.state.who
    return found.name
