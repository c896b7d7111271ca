"""Reading and writing of Sphinx's binary trigram models ("Trie Language Model") with 16-bit probabilities.

The layout is that of `ngram_model_trie.c` and `lm_trie.c` in https://github.com/cmusphinx/pocketsphinx, which is
KenLM's quantised trie (Heafield, 2011). The tree goes from the predicted word back into its history. The library's own
writer crashes on the model of its wheel.
"""

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from speechpipe.control.training.lm.ngrams import Ids, Logs, Trigrams
from speechpipe.errors import BadInput

MAGIC = b"Trie Language Model"
LOG_BASE = np.log10(1.0001)
"""Logarithms in the file have Sphinx's base, 1.0001."""

BITS = 16
BINS = 1 << BITS
UNIGRAM = np.dtype([("prob", "<f4"), ("backoff", "<f4"), ("next", "<u4")])
CHUNK = 1 << 18
"""Entries that are unpacked at once; a multiple of 8, so that chunks end at byte boundaries."""

PADDING = 8

Bits = npt.NDArray[np.uint8]


def read(path: Path) -> Trigrams:
    """Read a trigram model.

    Raises:
        BadInput: it is not such a file.
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    if not data.startswith(MAGIC) or data[len(MAGIC)] != 3:
        raise BadInput(f"{path} is not a binary trigram model of Sphinx")
    try:
        return _read(data)
    except (struct.error, ValueError, IndexError) as error:
        raise BadInput(f"{path} is damaged: {error}") from error


def _read(data: bytes) -> Trigrams:
    at = len(MAGIC) + 1
    size, two, three = struct.unpack_from("<3I", data, at)
    at += 12 + 4  # the kind of quantisation, of which there is only one
    tables = np.frombuffer(data, "<f4", 3 * BINS, at)
    at += tables.nbytes
    one = np.frombuffer(data, UNIGRAM, size + 1, at)
    at += one.nbytes
    word_bits, next_bits = int(size).bit_length(), int(three).bit_length()
    middle = (word_bits, BITS, BITS, next_bits)
    first, v_back, v_prob, v_next = _unpack(data, at, two + 1, middle)
    at += _space(two, sum(middle))
    longest = (word_bits, BITS)
    before, t_prob = _unpack(data, at, three + 1, longest)
    at += _space(three, sum(longest))
    (length,) = struct.unpack_from("<i", data, at)
    words = data[at + 4 : at + 4 + length].decode("utf-8").rstrip("\0").split("\0")
    if len(words) != size:
        raise ValueError(f"{len(words)} words instead of {size}")
    # The numbers in the header count the lines of the source file, including duplicates, which are no entries here.
    two = int(one["next"][-1])
    three = int(v_next[two])
    v, v_next = first[:two], v_next[: two + 1]
    w = np.repeat(np.arange(size), np.diff(one["next"].astype(np.int64)).astype(np.int64))
    pairs = v * size + w
    # A trigram is a child of the bigram of its last two words.
    below = np.repeat(np.arange(two), np.diff(v_next))
    triples = (before[:three] * size + v[below]) * size + w[below]
    by_pair, by_triple = np.argsort(pairs), np.argsort(triples)
    scale = LOG_BASE
    return Trigrams(
        words,
        one["prob"][:-1] * scale,
        one["backoff"][:-1] * scale,
        pairs[by_pair],
        tables[v_prob[by_pair]] * scale,
        tables[BINS + v_back[by_pair]] * scale,
        triples[by_triple],
        tables[2 * BINS + t_prob[by_triple]] * scale,
    )


def write(model: Trigrams, path: Path) -> None:
    """Write a trigram model.

    Raises:
        OSError: it cannot be written.
    """
    size = model.size
    v, w = np.divmod(model.pairs, size)
    uv, x = np.divmod(model.triples, size)
    u, y = np.divmod(uv, size)
    by_pair, by_triple = np.lexsort((v, w)), np.lexsort((u, y, x))
    reversed_pairs = (w * size + v)[by_pair]
    below = np.searchsorted(reversed_pairs, (x * size + y)[by_triple])
    prob_table, prob_bins = _quantised(model.pair_prob[by_pair])
    back_table, back_bins = _quantised(model.pair_backoff[by_pair])
    last_table, last_bins = _quantised(model.triple_prob[by_triple])
    one = np.zeros(size + 1, UNIGRAM)
    one["prob"][:-1], one["backoff"][:-1] = model.prob / LOG_BASE, model.backoff / LOG_BASE
    one["next"] = np.searchsorted(w[by_pair], np.arange(size + 1))
    v_next = np.searchsorted(below, np.arange(len(v) + 1))
    word_bits, next_bits = size.bit_length(), len(u).bit_length()
    words = "\0".join(model.words).encode() + b"\0"
    with path.open("wb") as file:
        file.write(MAGIC + b"\3" + struct.pack("<3Ii", size, len(v), len(u), 1))
        for table in (prob_table, back_table, last_table):
            file.write((table / LOG_BASE).astype("<f4").tobytes())
        file.write(one.tobytes())
        middle = [(_closed(v[by_pair]), word_bits), (_closed(back_bins), BITS), (_closed(prob_bins), BITS)]
        file.write(_packed([*middle, (v_next, next_bits)]))
        file.write(_packed([(_closed(u[by_triple]), word_bits), (_closed(last_bins), BITS)]))
        file.write(struct.pack("<i", len(words)) + words)


def _space(entries: int, bits: int) -> int:
    """Return the bytes of an array of entries: one extra entry, and padding to read a word at its end."""
    return ((entries + 1) * bits + 7) // 8 + PADDING


def _closed(column: Ids) -> Ids:
    return np.append(column, 0)  # the extra entry after the last, of which only `next` is used


def _unpack(data: bytes, at: int, entries: int, widths: tuple[int, ...]) -> list[Ids]:
    """Unpack bit-packed entries, lowest bits first, into one column for each width."""
    total = sum(widths)
    raw = np.frombuffer(data, np.uint8, (entries * total + 7) // 8, at)
    columns: list[list[Ids]] = [[] for _ in widths]
    for start in range(0, entries, CHUNK):
        count = min(CHUNK, entries - start)
        part = raw[start * total // 8 : -(-(start + count) * total // 8)]
        bits = np.unpackbits(part, bitorder="little")[: count * total].reshape(count, total)
        offset = 0
        for column, width in zip(columns, widths, strict=True):
            packed = np.packbits(bits[:, offset : offset + width], axis=1, bitorder="little")
            wide = np.zeros((count, 8), np.uint8)
            wide[:, : packed.shape[1]] = packed
            column.append(wide.view("<i8")[:, 0])
            offset += width
    return [np.concatenate(column) for column in columns]


def _packed(columns: list[tuple[Ids, int]]) -> bytes:
    """Pack columns of (values, width in bits) entry by entry, with the padding at the end."""
    entries = len(columns[0][0])
    parts: list[bytes] = []
    for start in range(0, entries, CHUNK):
        bits: list[Bits] = []
        for values, width in columns:
            part = np.ascontiguousarray(values[start : start + CHUNK], "<i8")
            bits.append(np.unpackbits(part.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")[:, :width])
        parts.append(np.packbits(np.concatenate(bits, axis=1).ravel(), bitorder="little").tobytes())
    return b"".join(parts) + bytes(PADDING)


def _quantised(values: Logs) -> tuple[Logs, Ids]:
    """Return a table of values and the index of each value in it, to within 1/65536 of their range."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    step = (high - low) / (BINS - 1) or 1.0
    table: Logs = low + step * np.arange(BINS, dtype=np.float64)
    return table, np.rint((values - low) / step).astype(np.int64)
