"""torchaudio beside a torch that its compiled libraries do not fit."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PACKAGE = Path(str(find_spec("torchaudio").origin)).parent  # type: ignore[union-attr]


@pytest.fixture
def broken(tmp_path: Path) -> dict[str, str]:
    """An environment whose torchaudio has compiled libraries that no system can load."""
    copy = tmp_path / "torchaudio"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in ("_torchaudio", "libtorchaudio"):
        (copy / "lib" / f"{name}.abi3.so").write_bytes(b"no library")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}


def run(code: str, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.long
def test_the_library_itself_fails_there(broken: dict[str, str]) -> None:
    """If this passes no longer, torchaudio has learned it, and `torchaudio_import` can go."""
    done = run("import torchaudio", broken)
    assert (done.returncode, "Could not load" in done.stderr) == (1, True), done.stderr


@pytest.mark.long
@pytest.mark.parametrize("module", ["wav2vec2", "emformer", "ctc", "moonshine"])
def test_every_recognizer_on_torchaudio_loads(broken: dict[str, str], module: str) -> None:
    code = (
        f"import torch, speechpipe.cascade.asr.{module}, torchaudio, torchaudio.models, sys;"
        "from pathlib import Path;"
        "print(torchaudio.transforms.MFCC(16000)(torch.zeros(16000)).shape[0], len(list(Path("
        "torchaudio.__file__).parent.glob('lib/*.so'))))"
    )
    done = run(code, broken)
    assert done.stdout.split() == ["40", "2"], done.stderr


LOADER = """
asked = []
def _load_lib(name):
    asked.append(name)
    return True
def _check_cuda_version():
    asked.append("version")
"""
"""The module of torchaudio that loads its libraries, on a system where they can be loaded."""


def test_libraries_that_load_are_used(tmp_path: Path) -> None:
    package = tmp_path / "torchaudio"
    (package / "_extension").mkdir(parents=True)
    (package / "_extension" / "__init__.py").touch()
    (package / "_extension" / "utils.py").write_text(LOADER)
    (package / "__init__.py").write_text(
        "from torchaudio._extension.utils import _load_lib, asked; loaded = _load_lib('_torchaudio')"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    code = "from speechpipe.cascade.asr.torchaudio_import import torchaudio as t; print(t.loaded, *t.asked)"
    done = run(code, {**os.environ, "PYTHONPATH": path})
    assert done.stdout.split() == ["True", "libtorchaudio", "_torchaudio", "version"], done.stderr
