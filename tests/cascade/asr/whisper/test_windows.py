"""Pieces share windows without overlapping, in order; a long piece is cut where it is quiet."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechpipe.cascade.asr.whisper.windows import (
    GAP,
    LENGTHS,
    LONGEST,
    PACKED,
    SPARE,
    Part,
    cut,
    fitting,
    lone,
    packed,
)


def part(piece: int, frames: int) -> Part:
    return Part(piece, 0, np.zeros((2, frames), np.float32))


@pytest.mark.parametrize(
    ("frames", "length"),
    [(0, 1500), (1450, 1500), (1451, 2000), (1950, 2000), (1951, 3000), (2950, 3000), (3000, 3000)],
)
def test_a_piece_gets_the_shortest_window_with_half_a_second_to_spare(frames: int, length: int) -> None:
    assert fitting(frames) == length


@given(st.lists(st.integers(1, LONGEST), max_size=30))
def test_pieces_share_windows_in_order_and_apart(lengths: list[int]) -> None:
    windows = packed([part(piece, frames) for piece, frames in enumerate(lengths)])
    assert [one.piece for window in windows for one in window.parts] == list(range(len(lengths)))
    for window in windows:
        assert window.length in LENGTHS
        assert window.frames + SPARE <= window.length
        assert window.alone or window.frames <= PACKED
        ends = [start + one.frames for start, one in zip(window.starts, window.parts, strict=True)]
        assert all(start - end == GAP for start, end in zip(window.starts[1:], ends[:-1], strict=True))
    for before, after in itertools.pairwise(windows):
        assert (
            before.frames + GAP + after.parts[0].frames > PACKED
        )  # no window that the next piece would have fitted into


def test_a_longer_window_for_a_second_try() -> None:
    assert lone(part(0, 100)).length == 1500
    assert lone(part(0, 100), longer_than=1500).length == 2000
    assert lone(part(0, 1900), longer_than=2000).length == 3000
    assert lone(part(0, 1900), longer_than=3000).length == 3000


def test_a_long_piece_is_cut_at_its_quietest_places() -> None:
    mel = np.zeros((4, 7000), np.float32)
    for quiet in (2000, 4400):
        mel[:, quiet - 15 : quiet + 16] = -4.0
    parts = cut(3, mel)
    assert [one.offset for one in parts] == pytest.approx([0, 2000, 4400], abs=8)
    assert [one.piece for one in parts] == [3, 3, 3]


@given(st.integers(0, 20_000), st.integers(0, 5))
def test_no_frame_of_a_long_piece_is_lost(frames: int, seed: int) -> None:
    mel = np.random.default_rng(seed).normal(0, 1, (2, frames)).astype(np.float32)
    parts = cut(0, mel)
    assert np.array_equal(np.concatenate([one.mel for one in parts], axis=1), mel)
    assert all(one.frames <= LONGEST for one in parts)
    assert all(one.frames >= LONGEST // 3 for one in parts) or len(parts) == 1
    assert [one.offset for one in parts] == [
        sum(each.frames for each in parts[:number]) for number in range(len(parts))
    ]
