"""Writes small ONNX models, so that tests need neither the package `onnx` nor released weights.

Field numbers are those of `onnx.proto3` (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3), IR version 8.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

KINDS = {"float": 1, "int32": 6, "int64": 7}
OPSET = 13


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _int(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _tensor(name: str, value: npt.NDArray[Any]) -> bytes:
    kind = {"float32": "float", "int32": "int32", "int64": "int64"}[str(value.dtype)]
    dims = b"".join(_int(1, size) for size in value.shape)
    return dims + _int(2, KINDS[kind]) + _bytes(8, name) + _bytes(9, value.tobytes())


def _attribute(name: str, value: int | float | Sequence[int]) -> bytes:
    head = _bytes(1, name)
    if isinstance(value, float):
        return head + _varint(2 << 3 | 5) + struct.pack("<f", value) + _int(20, 1)
    if isinstance(value, int):
        return head + _int(3, value) + _int(20, 2)
    return head + b"".join(_int(8, item) for item in value) + _int(20, 7)


@dataclass(frozen=True)
class Value:
    """An input or output: its name, its element type, and its shape, in which texts are variable sizes."""

    name: str
    kind: str
    shape: tuple[int | str, ...]

    def encoded(self) -> bytes:
        """Return its `ValueInfoProto`."""
        dims = b"".join(_bytes(1, _int(1, n) if isinstance(n, int) else _bytes(2, n)) for n in self.shape)
        return _bytes(1, self.name) + _bytes(2, _bytes(1, _int(1, KINDS[self.kind]) + _bytes(2, dims)))


class Graph:
    """A graph under construction; its methods return the name of the result."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._constants: list[bytes] = []
        self._count = 0

    def const(self, value: Any, dtype: str = "float32") -> str:
        """Add a constant."""
        self._count += 1
        name = f"c{self._count}"
        self._constants.append(_tensor(name, np.asarray(value, dtype)))
        return name

    def node(self, kind: str, *inputs: str, to: str = "", **attributes: int | float | Sequence[int]) -> str:
        """Add a node of one result."""
        self._count += 1
        to = to or f"v{self._count}"
        fields = b"".join(_bytes(1, name) for name in inputs) + _bytes(2, to) + _bytes(4, kind)
        fields += b"".join(_bytes(5, _attribute(name, value)) for name, value in attributes.items())
        self._nodes.append(fields)
        return to

    def save(
        self, path: Path, inputs: Sequence[Value], outputs: Sequence[Value], metadata: Mapping[str, object]
    ) -> Path:
        """Write the model."""
        graph = b"".join(_bytes(1, node) for node in self._nodes) + _bytes(2, "tiny")
        graph += b"".join(_bytes(5, constant) for constant in self._constants)
        graph += b"".join(_bytes(11, value.encoded()) for value in inputs)
        graph += b"".join(_bytes(12, value.encoded()) for value in outputs)
        model = _int(1, 8) + _bytes(7, graph) + _bytes(8, _int(2, OPSET))
        model += b"".join(_bytes(14, _bytes(1, key) + _bytes(2, str(value))) for key, value in metadata.items())
        path.write_bytes(model)
        return path
