"""Tests use the package as its callers do: none reaches for a name that begins with an underscore."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FILES = sorted(path for path in TESTS.rglob("*.py") if path != Path(__file__))

ALLOWED = {
    ("cascade/workers/test_pool.py", "_lock"): "holds back the pool until all segments wait; nothing public can",
}
"""File and name: why the same cannot be shown through what is public."""

DOCUMENTED = {"_asdict", "_exit", "_fields", "_getframe", "_replace"}
"""Public names of the standard library."""

BY_NAME = {"attrgetter", "delattr", "getattr", "hasattr", "object", "patch", "setattr"}
"""Functions, and methods of `monkeypatch` and `mock.patch`, that take the name of an attribute as a text."""

CANDIDATE = re.compile(r"(?<!\w)(?<!self\.)(?<!cls\.)_[A-Za-z]")
"""Text without it has no private name of another object, so that most files need not be parsed."""


def private_parts(dotted: str) -> set[str]:
    """Return the parts of a dotted name that begin with exactly one underscore and are not `DOCUMENTED`."""
    return {part for part in dotted.split(".") if re.match(r"_[A-Za-z0-9]", part)} - DOCUMENTED


def names_in(node: ast.AST) -> Iterator[str]:
    """Yield the dotted names that a node takes from another object or module."""
    match node:
        case ast.Attribute(value=ast.Name(id="self" | "cls")):
            return
        case ast.Attribute(attr=name):
            yield name
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=module, names=names):
            yield from (module or "", *(alias.name for alias in names))
        case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=arguments) if called in BY_NAME:
            # The first is an object or the whole path to the name, the second the name; what follows is a value.
            for argument in arguments[:2]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value


def private_names(text: str) -> set[str]:
    """Return the private names of other objects and modules that a Python text uses."""
    if not CANDIDATE.search(text):
        return set()
    return {part for node in ast.walk(ast.parse(text)) for name in names_in(node) for part in private_parts(name)}


@functools.cache
def found() -> set[tuple[str, str]]:
    """Return (file, name) of all uses in the tests."""
    return {(path.relative_to(TESTS).as_posix(), name) for path in FILES for name in private_names(path.read_text())}


def test_no_test_reaches_into_private_state() -> None:
    assert len(FILES) > 200
    assert [f"{file}: {name}" for file, name in sorted(found() - ALLOWED.keys())] == []


def test_every_exception_is_needed() -> None:
    assert sorted(ALLOWED.keys() - found()) == []


@pytest.mark.parametrize(
    "text",
    [
        "store._x",
        "store.queue[0]._x",
        "self.store._x = 1",
        "make()._x()",
        "from speechpipe.errors import _x",
        "from speechpipe.errors import (\n    _x as y,\n)",
        "from speechpipe._x import y",
        "import speechpipe._x",
        "getattr(store, '_x')",
        "monkeypatch.setattr(store, '_x', 1)",
        "monkeypatch.setattr('speechpipe.errors._x', 1)",
        "mock.patch.object(store, '_x')",
    ],
)
def test_each_way_to_a_private_name_is_seen(text: str) -> None:
    assert private_names(text) == {"_x"}


@pytest.mark.parametrize(
    "text",
    ["self._x = 1", "cls._x", "_x = 1", "import numpy as _x", "row._asdict()", "a.__dict__", "setattr(a, 'b', '_x')"],
)
def test_what_belongs_to_the_test_or_is_public_is_not(text: str) -> None:
    assert private_names(text) == set()
