"""torchaudio, which loads beside a torch without CUDA too. No other module of this package imports it.

torchaudio's wheels carry compiled libraries that are linked against CUDA. Beside a CPU-only torch they do not load, and
`import torchaudio` ends in an OSError, although everything but forced alignment is written in Python and runs without
them. torchaudio itself takes a library file that is absent for "not built". Here a library file that cannot be loaded
counts as not built as well; nothing is changed on disk.
"""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

LOADER = "torchaudio._extension.utils"
"""The module of torchaudio that loads its compiled libraries; it imports nothing but torch."""

LIBRARIES = ("libtorchaudio", "_torchaudio")
"""Without one of them the other is of no use."""


def _loader_spec() -> ModuleSpec | None:
    """Return where torchaudio's loader of libraries is, without importing torchaudio; None if it is not there."""
    package = find_spec("torchaudio")
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / "_extension" / "utils.py"
    return spec_from_file_location(LOADER, path) if path.is_file() else None


def _tolerant(loader: Any) -> None:
    """Make `loader._load_lib` return False for libraries that are there and cannot be loaded."""
    strict = loader._load_lib

    def load_lib(name: str) -> bool:
        if name not in LIBRARIES:
            return bool(strict(name))
        try:
            loaded = all(strict(library) for library in LIBRARIES)
            if loaded:
                loader._check_cuda_version()
        except (OSError, RuntimeError):  # a library that it needs is absent; torch is of another version of CUDA
            return False
        return loaded

    loader._load_lib = load_lib


def _import() -> Any:
    spec = None if "torchaudio" in sys.modules else _loader_spec()
    if spec is not None and spec.loader is not None:
        loader = module_from_spec(spec)
        spec.loader.exec_module(loader)
        _tolerant(loader)
        sys.modules[LOADER] = loader  # what `torchaudio` finds when it imports its own submodule
    try:
        import torchaudio
    except BaseException:
        sys.modules.pop(LOADER, None)
        raise
    return torchaudio


torchaudio: Any = _import()
