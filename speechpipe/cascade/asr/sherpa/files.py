"""Checks of a model's files, because the library ends the process if one is wrong."""

from collections.abc import Mapping
from pathlib import Path

from speechpipe.cascade.asr.sherpa.onnx_metadata import read_metadata
from speechpipe.errors import BadInput


def present(files: Mapping[str, Path], *roles: str) -> dict[str, Path]:
    """Return the files of these roles.

    Raises:
        BadInput: the card names no file for a role.
        OSError: a file is missing.
    """
    for role in roles:
        if role not in files:
            raise BadInput(f"the card has no file with the role {role}; needed: {', '.join(roles)}")
        files[role].stat()
    return {role: files[role] for role in roles}


def metadata(path: Path, *keys: str) -> dict[str, str]:
    """Return the metadata of a model; the values of `keys` are whole numbers, or lists of them.

    Raises:
        BadInput: it is not an ONNX model, or a key is missing or wrong.
        OSError: it cannot be read.
    """
    found = read_metadata(path)
    for key in keys:
        value = found.get(key, "")
        if not all(part.strip().isdecimal() for part in value.split(",")):
            what = f"{key} is {value[:40]!r}" if value else f"no {key}"
            message = f"{path.name} is not a model of this kind for sherpa-onnx: {what} in its metadata"
            raise BadInput(message, cause="weights_broken")
    return found
