"""Candidates in blocks of about an hour, in an order that can be followed without visiting all of them.

Time is divided into cells of twice the gap, counted from a fixed origin of each camera. Each cell has one
candidate, in its first half, so two candidates are never closer than the gap. The cells of an hour are one block,
and a permutation of its own puts the m cells of a block in an order. The j-th of them gets a random place in the
j-th of m equal parts of the range of 64 bits.

The place of every candidate is therefore uniform, and any part of the order has nearly the same number of
candidates of each hour. To find the candidates up to some place, j is counted up in each block: the work is that of
the blocks and of the candidates that are found. The time of a candidate and its place are hashes of (seed, purpose,
camera, cell).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from rhombus_dataset.hashing import hash_key, hashes
from rhombus_dataset.plan.local_time import HOUR_MS
from rhombus_dataset.planning.strategies.candidates import NONE, Chosen, Segments, numbers

ROUNDS: Final = 8
"""Rounds of the Feistel network that permutes the cells of a block. With 4, the first two of few cells are visibly
not independent (chi-square); with 8 nothing shows in 100,000 blocks, also of 2 or 3 cells."""


class HourBlocks:
    """The candidates of one camera in its ``segments``, of which all have a column below ``columns``."""

    def __init__(
        self, camera_uuid: str, segments: Segments, columns: int, *, seed: int, purpose: str, gap_ms: int
    ) -> None:
        self._segments = segments
        self._columns = columns
        self._gap_ms = gap_ms
        self._width_ms = 2 * gap_ms
        self._block_cells = max(1, HOUR_MS // self._width_ms)
        self._part = np.uint64((2**64 - 1) // self._block_cells)
        self._origin_ms = hash_key(seed, purpose, "origin", camera_uuid) % self._width_ms
        self._place_key = hash_key(seed, purpose, "place", camera_uuid)
        self._order_key = hash_key(seed, purpose, "order", camera_uuid)
        self._round_keys = [hash_key(seed, purpose, f"permutation {i}", camera_uuid) for i in range(ROUNDS)]
        self._first = (segments.start_ms - self._origin_ms) // self._width_ms
        self._last = (segments.end_ms - 1 - self._origin_ms) // self._width_ms

    def available(self) -> npt.NDArray[np.int64]:
        """Return the number of candidates of each column: int64, (C,). Only the cells at the edges are visited."""
        early = self._times(self._first) < self._segments.start_ms
        late = self._times(self._last) >= self._segments.end_ms
        found = np.zeros(self._columns, np.int64)
        np.add.at(found, self._segments.column, self._last - self._first + 1 - early - late)
        return found

    def below(self, limits: npt.NDArray[np.uint64]) -> Chosen:
        """Return the candidates whose place in the order is at most the limit of their column: uint64, (C,).

        In each segment either the order of its blocks is followed, or all of its cells are visited: whatever is
        less work."""
        size, limit = self._block_cells, limits[self._segments.column]
        tries = np.minimum(limit // self._part, np.uint64(size - 1)).astype(np.int64) + 1
        wanted = limit > 0
        blocks = np.where(wanted, self._last // size - self._first // size + 1, 0)
        cells = np.where(wanted, self._last - self._first + 1, 0)
        visited = cells <= blocks * tries
        found = [NONE]
        for segment, block in numbers(self._first // size, np.where(visited, 0, blocks)):
            for pair, nth in numbers(np.zeros_like(block), tries[segment]):
                place = self._places(block[pair], nth)
                low = np.flatnonzero(place <= limit[segment[pair]])
                pair, nth = pair[low], nth[low]
                cell = block[pair] * size + self._permuted(block[pair], nth)
                found.append(self._inside(segment[pair], cell, place[low]))
        for segment, cell in numbers(self._first, np.where(visited, cells, 0)):
            block = cell // size
            place = self._places(block, self._permuted(block, cell - block * size, inverse=True))
            low = np.flatnonzero(place <= limit[segment])
            found.append(self._inside(segment[low], cell[low], place[low]))
        return Chosen(
            np.concatenate([part.timestamp_ms for part in found]),
            np.concatenate([part.order for part in found]),
            np.concatenate([part.column for part in found]),
        )

    def _inside(
        self, segment: npt.NDArray[np.int64], cells: npt.NDArray[np.int64], places: npt.NDArray[np.uint64]
    ) -> Chosen:
        """Return the candidates that lie in their segment, and not only their cell."""
        segments, times = self._segments, self._times(cells)
        inside = (times >= segments.start_ms[segment]) & (times < segments.end_ms[segment])
        return Chosen(times[inside], places[inside], segments.column[segment[inside]])

    def _places(self, block: npt.NDArray[np.int64], nth: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """Return the place in the order of the ``nth`` candidate of each block: uint64."""
        places = hashes(self._order_key, block * self._block_cells + nth)
        places %= self._part
        places += nth.astype(np.uint64) * self._part
        return places

    def _times(self, cells: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the time of the candidate of each cell: int64, UTC ms."""
        offsets = (hashes(self._place_key, cells) % np.uint64(self._gap_ms + 1)).astype(np.int64)
        return cells * self._width_ms + self._origin_ms + offsets

    def _permuted(
        self, block: npt.NDArray[np.int64], nth: npt.NDArray[np.int64], inverse: bool = False
    ) -> npt.NDArray[np.int64]:
        """Return which cell of its block is the ``nth``: int64, a permutation of [0, cells of a block) by block.
        With ``inverse``, return at which place in the order of its block a cell is.

        A Feistel network permutes the pairs of a rectangle that is hardly larger than the block. Where it leaves
        the block, it is applied again."""
        rows = math.isqrt(self._block_cells - 1) + 1
        cells = -(-self._block_cells // rows)
        sign = -1 if inverse else 1
        found, todo = nth.copy(), np.arange(len(nth))
        while len(todo):
            row, cell = np.divmod(found[todo], cells)
            for i, key in list(enumerate(self._round_keys))[::sign]:
                if i % 2:
                    cell = (cell + sign * self._shift(key, block[todo] * rows + row, cells)) % cells
                else:
                    row = (row + sign * self._shift(key, block[todo] * cells + cell, rows)) % rows
            found[todo] = row * cells + cell
            todo = todo[found[todo] >= self._block_cells]
        return found

    def _shift(self, key: int, positions: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
        return (hashes(key, positions) % np.uint64(count)).astype(np.int64)
