"""Mergeable summaries of many values: count, sums and a quantile sketch.

The sketch is KLL (Karnin, Lang, Liberty 2016, https://arxiv.org/abs/1603.05346) from Apache DataSketches. Its rank
error is about 1 % for any distribution, in about 2 kB.
"""

import math
import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from datasketches import kll_doubles_sketch

K = 200
_HEAD = struct.Struct("<qddI")  # count, sum, sum of squares, bytes of the sketch


class Distribution:
    """Summary of finite real values; NaN and infinities must be removed before."""

    __slots__ = ("_sketch", "count", "squares", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.squares = 0.0
        self._sketch: kll_doubles_sketch | None = None

    @classmethod
    def of(cls, values: Sequence[float] | npt.NDArray[np.float64], *, shape_only: bool = False) -> "Distribution":
        """Return the summary of (n,) values; with `shape_only` count and sums only, without a sketch."""
        found = cls()
        array = np.asarray(values, np.float64)
        found.count = len(array)
        found.total = float(array.sum())
        found.squares = float(np.dot(array, array))
        if not shape_only and len(array):
            found._sketch = kll_doubles_sketch(K)
            found._sketch.update(array)
        return found

    @classmethod
    def of_sums(cls, count: int, total: float, squares: float) -> "Distribution":
        """Return the summary of values of which only count, sum and sum of squares are known; without a sketch."""
        found = cls()
        found.count, found.total, found.squares = count, total, squares
        return found

    def add_to_total(self, amount: float) -> None:
        """Add to the sum what came later of a value that is counted already."""
        self.total += amount

    def merge(self, other: "Distribution") -> None:
        """Add another summary to this one."""
        self.count += other.count
        self.total += other.total
        self.squares += other.squares
        if other._sketch is not None:
            if self._sketch is None:
                self._sketch = kll_doubles_sketch(K)
            self._sketch.merge(other._sketch)

    @property
    def mean(self) -> float | None:
        """The mean; None without values."""
        return self.total / self.count if self.count else None

    @property
    def deviation(self) -> float:
        """The standard deviation; 0 with fewer than two values."""
        if self.count < 2:
            return 0.0
        mean = self.total / self.count
        return math.sqrt(max(0.0, self.squares / self.count - mean * mean))

    @property
    def sketched(self) -> bool:
        """Whether quantiles are available."""
        return self._sketch is not None and not self._sketch.is_empty()

    def quantile(self, share: float) -> float | None:
        """Return the quantile at `share` (0..1); None without a sketch."""
        if self._sketch is None or self._sketch.is_empty():
            return None
        return float(self._sketch.get_quantile(share))

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """Return several quantiles at once; an empty list without a sketch."""
        if self._sketch is None or self._sketch.is_empty():
            return []
        return [float(value) for value in self._sketch.get_quantiles(list(shares))]

    def histogram(self, edges: Sequence[float]) -> list[float]:
        """Return the share of values in each bin: below the first edge, between edges, above the last."""
        if self._sketch is None or self._sketch.is_empty():
            return [0.0] * (len(edges) + 1)
        return [float(share) for share in self._sketch.get_pmf(list(edges))]

    def dump(self) -> bytes:
        """Return the summary as bytes, for `load`."""
        sketch = self._sketch.serialize() if self._sketch is not None else b""
        return _HEAD.pack(self.count, self.total, self.squares, len(sketch)) + sketch

    @classmethod
    def load(cls, data: memoryview) -> tuple["Distribution", memoryview]:
        """Return the summary at the beginning of `data`, and the remaining bytes."""
        found = cls()
        found.count, found.total, found.squares, length = _HEAD.unpack_from(data)
        end = _HEAD.size + length
        if length:
            found._sketch = kll_doubles_sketch.deserialize(bytes(data[_HEAD.size : end]))
        return found, data[end:]
