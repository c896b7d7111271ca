"""The hook: brings the faults of `inside.py` into every process of a server.

A `sitecustomize.py` in a folder that is first on PYTHONPATH is run by each Python process at its start, and worker
processes inherit PYTHONPATH. It calls `install`, which imports nothing of the service: a module gets its faults when
the service itself has imported it, so that processes start as they do without the hook.
"""

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from speechpipe.bench.live.active import ActiveFaults

TARGETS: Mapping[str, str] = {
    "speechpipe.cascade.catalog.factories": "segments",
    "speechpipe.cascade.vad": "scores",
    "speechpipe.cascade.asr": "recognizers",
    "speechpipe.foundation.storage.store": "store",
}
"""Modules of the service -> the function of `inside.py` that is called with the module once it is imported."""

SITECUSTOMIZE = """
from speechpipe.bench.live.hook import install
install({path!r})
"""


def write_hook(folder: Path, faults: Path) -> None:
    """Write the `sitecustomize.py` into a folder; the processes that run it read the active faults from `faults`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE.format(path=str(faults)))


def install(path: str) -> None:
    """Let the faults in the file at `path` act in this process, in the modules of `TARGETS` that it will import."""
    sys.meta_path.insert(0, _Finder(ActiveFaults(path)))


def put(owner: object, name: str, value: object) -> None:
    """Replace an attribute of a module, class or object by a faulty one."""
    setattr(owner, name, value)


class _Finder:
    """Finds the modules of `TARGETS` by the other finders, and has them patched after they were executed."""

    def __init__(self, faults: ActiveFaults) -> None:
        self._faults = faults
        self._left = dict(TARGETS)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a module with faults; None for all others."""
        del path, target
        patch = self._left.pop(name, None)  # not found twice: the next line asks all finders, this one too
        if patch is None:
            return None
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute, faults = spec.loader.exec_module, self._faults

        def execute_and_patch(module: ModuleType) -> None:
            execute(module)
            inside = importlib.import_module("speechpipe.bench.live.inside")
            getattr(inside, patch)(module, faults)

        put(spec.loader, "exec_module", execute_and_patch)
        return spec
