"""Imports torchaudio, also beside a torch without CUDA. Other modules of this package must import it from here.

torchaudio's wheels contain compiled libraries that are linked against CUDA. With a CPU-only torch they cannot be loaded
and `import torchaudio` raises OSError, although everything but forced alignment is Python code that does not need them.
torchaudio treats an absent library as not built. This module makes it treat a library that cannot be loaded in the same
way; no file is changed.
"""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

LOADER = "torchaudio._extension.utils"
"""torchaudio's module that loads its compiled libraries; it imports torch only."""

LIBRARIES = ("libtorchaudio", "_torchaudio")
"""The compiled libraries; each is useless without the other."""


def _loader_spec() -> ModuleSpec | None:
    """Find torchaudio's library loader without importing torchaudio; None if it is not installed."""
    package = find_spec("torchaudio")
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / "_extension" / "utils.py"
    return spec_from_file_location(LOADER, path) if path.is_file() else None


def _tolerant(loader: Any) -> None:
    """Make `loader._load_lib` return False for libraries that exist and cannot be loaded."""
    strict = loader._load_lib

    def load_lib(name: str) -> bool:
        if name not in LIBRARIES:
            return bool(strict(name))
        try:
            loaded = all(strict(library) for library in LIBRARIES)
            if loaded:
                loader._check_cuda_version()
        except (OSError, RuntimeError):  # a dependency is absent, or torch was built for another CUDA version
            return False
        return loaded

    loader._load_lib = load_lib


def _import() -> Any:
    spec = None if "torchaudio" in sys.modules else _loader_spec()
    if spec is not None and spec.loader is not None:
        loader = module_from_spec(spec)
        spec.loader.exec_module(loader)
        _tolerant(loader)
        sys.modules[LOADER] = loader  # torchaudio finds it here when it imports its own submodule
    try:
        import torchaudio
    except BaseException:
        sys.modules.pop(LOADER, None)
        raise
    return torchaudio


torchaudio: Any = _import()
