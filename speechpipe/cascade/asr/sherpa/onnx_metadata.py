"""Reads the metadata of an ONNX file without a library and without reading its weights."""

from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from speechpipe.errors import BadInput

GRAPH, METADATA = 7, 14
"""Fields of `ModelProto` (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3)."""

BYTES = 2
"""Wire type of texts, bytes and messages (https://protobuf.dev/programming-guides/encoding)."""

MOST_METADATA = 1 << 20


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of the ONNX model in a file.

    Raises:
        BadInput: it is not an ONNX model, or it is cut off.
        OSError: it cannot be read.
    """
    found: dict[str, str] = {}
    has_graph = False
    with path.open("rb") as file:
        size = path.stat().st_size
        try:
            while file.tell() < size:
                field, kind = divmod(_varint(file), 8)
                length = _length(file, kind)
                if file.tell() + length > size:
                    raise ValueError("it is cut off")
                if field == METADATA and length <= MOST_METADATA:
                    key, value = _entry(file.read(length))
                    found[key] = value
                else:
                    file.seek(length, 1)
                has_graph = has_graph or field == GRAPH
        except ValueError as error:
            raise BadInput(f"{path.name} is not an ONNX model: {error}", cause="weights_broken") from error
    if not has_graph:
        raise BadInput(f"{path.name} is not an ONNX model: it has no graph", cause="weights_broken")
    return found


def _length(file: BinaryIO, kind: int) -> int:
    """Return the bytes of a field that are left to read."""
    match kind:
        case 0:  # a number
            _varint(file)
            return 0
        case 1:  # 64 bits
            return 8
        case 2:
            return _varint(file)
        case 5:  # 32 bits
            return 4
        case _:
            raise ValueError(f"wire type {kind}")


def _varint(file: BinaryIO) -> int:
    number = shift = 0
    while byte := file.read(1):
        number |= (byte[0] & 0x7F) << shift
        shift += 7
        if not byte[0] & 0x80:
            return number
        if shift > 63:
            raise ValueError("a number has more than 64 bits")
    raise ValueError("it is cut off")


def _entry(data: bytes) -> tuple[str, str]:
    """Return key and value of a `StringStringEntryProto`."""
    parts = {1: "", 2: ""}
    file = BytesIO(data)
    while file.tell() < len(data):
        field, kind = divmod(_varint(file), 8)
        if kind != BYTES:
            raise ValueError(f"metadata of wire type {kind}")
        parts[field] = file.read(_varint(file)).decode("utf-8", "replace")
    return parts[1], parts[2]
