"""Folders and files of the state directory: accessible by their owner only, and replaced atomically."""

import os
from pathlib import Path

FOLDER_MODE, FILE_MODE = 0o700, 0o600


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents, accessible by their owner only. Existing folders keep their mode.

    Raises:
        OSError: it cannot be created.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    path.mkdir(mode=FOLDER_MODE, exist_ok=True)  # raises if it is not a folder


def create_file(path: Path) -> None:
    """Create an empty file that only its owner can read. An existing file keeps its content and mode.

    Raises:
        OSError: it cannot be created.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, FILE_MODE))


def write_file(path: Path, content: bytes) -> None:
    """Replace the content of a file atomically: a reader sees the old content or the new.

    Raises:
        OSError: it cannot be written; the old content stays.
    """
    make_folder(path.parent)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE), "wb") as file:
            file.write(content)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
