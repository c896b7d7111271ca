"""`deprecated`: marks a public function for removal; its warning names the release and the alternative."""

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def deprecated(since: str, *, removal_in: str, alternative: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that makes each call emit a `DeprecationWarning`, attributed to the caller's line.

    Args:
        since: the release that deprecated the function, e.g. `0.2`.
        removal_in: the release that removes it; at least one minor release later (docs/compatibility.md).
        alternative: what to use instead, as a caller would write it.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        message = (
            f"{function.__qualname__} is deprecated since speechpipe {since} and will be removed in {removal_in}; "
            f"use {alternative}"
        )

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            return function(*args, **kwargs)

        return call

    return decorate
