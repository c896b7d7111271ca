"""What the page on compatibility calls public can be imported by that name, and `__all__` says the truth of it."""

import ast
import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def called_public() -> list[str]:
    """Return the modules, and the names in modules, of the row "Python" of docs/compatibility.md."""
    row = next(
        line for line in (ROOT / "docs/compatibility.md").read_text().splitlines() if line.startswith("| Python |")
    )
    return re.findall(r"`(speechpipe(?:\.\w+)+)`", row.split("|")[2])


PUBLIC = called_public()
MODULES = [name for name in PUBLIC if not name.rpartition(".")[2][0].isupper()]
NAMES = [name for name in PUBLIC if name not in MODULES]


def defined(module: ModuleType) -> set[str]:
    """Return the names without a leading underscore that a module defines itself."""
    found = set()
    for node in ast.parse(Path(str(module.__file__)).read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return {name for name in found if not name.startswith("_")}


def test_the_page_names_what_is_public() -> None:
    assert {"speechpipe.cascade.vad", "speechpipe.cascade.asr", "speechpipe.types", "speechpipe.errors"} <= set(MODULES)
    assert len(set(PUBLIC)) == len(PUBLIC)


@pytest.mark.parametrize("name", MODULES)
def test_a_public_module_lists_exactly_what_it_defines(name: str) -> None:
    module = importlib.import_module(name)
    assert sorted(module.__all__) == sorted(set(module.__all__)) == sorted(defined(module))
    assert [item for item in module.__all__ if not hasattr(module, item)] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_in_the_list_of_its_module(name: str) -> None:
    module_name, _, item = name.rpartition(".")
    module = importlib.import_module(module_name)
    assert item in module.__all__
    assert hasattr(module, item)


def test_every_list_in_the_package_is_true() -> None:
    for path in (ROOT / "speechpipe").rglob("*.py"):
        if "\n__all__" in path.read_text():
            module = importlib.import_module(
                ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            )
            assert [item for item in module.__all__ if not hasattr(module, item)] == [], path
