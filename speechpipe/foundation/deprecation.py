"""Saying that something public will go: one decorator, so that every such warning names the release and what to use."""

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def deprecated(since: str, *, removal_in: str, alternative: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator after which each call raises a `DeprecationWarning` in the caller's name.

    Args:
        since: the release that deprecated it, e.g. `0.2`.
        removal_in: the release in which it will be gone; at least one minor release later (docs/compatibility.md).
        alternative: what to use instead, as a caller would write it.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        message = (
            f"{function.__qualname__} is deprecated since speechpipe {since} and will be gone in {removal_in}; "
            f"use {alternative}"
        )

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            return function(*args, **kwargs)

        return call

    return decorate
