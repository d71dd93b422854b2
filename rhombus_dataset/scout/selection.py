"""Choosing a few out of many: every event first, then strata in turn, within each what is least like the others.

A pure function of its arguments, in integers. The choice is one order: a smaller count is its beginning.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

QUIET: Final = -1


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """What can be chosen, a row each.

    ``camera`` (int32), ``timestamp_ms`` (int64) and ``stratum`` (int32) say where and when; ``event`` (int32)
    numbers what was going on, consecutive rows of a camera, and is QUIET where nothing was. ``score`` (int32) is
    how much is new, ``sure`` (bool) whether that is beyond doubt, and ``signature_index`` (int32) the row of ``signature``
    (int8, (M, 48)) that tells what it looks like, -1 for quiet rows. ``order`` (uint64) is that of quiet rows.
    """

    camera: npt.NDArray[np.int32]
    timestamp_ms: npt.NDArray[np.int64]
    stratum: npt.NDArray[np.int32]
    event: npt.NDArray[np.int32]
    score: npt.NDArray[np.int32]
    sure: npt.NDArray[np.bool_]
    signature_index: npt.NDArray[np.int32]
    order: npt.NDArray[np.uint64]
    signature: npt.NDArray[np.int8]


def choose(
    candidates: Candidates,
    among: npt.NDArray[np.bool_],
    ranks: Sequence[int],
    gap_ms: int,
    taken: dict[int, list[int]],
    *,
    quiet: bool,
) -> Iterator[tuple[int, bool]]:
    """Rows ``among`` the candidates in the order in which they are chosen, each with whether it begins its event.

    As long as there are events that no row is of, the stratum with such an event that has the fewest rows is
    served, and gives the event that is least like what it gave before; then the stratum with the fewest rows, and
    it gives the row that is least like them (farthest first: Gonzalez 1985, "Clustering to minimize the maximum
    intercluster distance"). What is not sure waits until all that is has been chosen. ``ranks`` decide between
    strata that are even. With ``quiet``, only quiet rows are chosen, in their order; else only others. Rows of one
    camera are ``gap_ms`` apart, also from those in ``taken`` (sorted times by camera), to which they are added.
    """
    wanted = np.flatnonzero(among & ((candidates.event == QUIET) == quiet))
    of_stratum = candidates.stratum[wanted]
    order = np.argsort(of_stratum, kind="stable")
    bounds = np.searchsorted(of_stratum[order], np.arange(len(ranks) + 1)).tolist()
    strata = [
        _Stratum(candidates, wanted[order[start:stop]], gap_ms, taken) for start, stop in itertools.pairwise(bounds)
    ]
    for rows_of in [_Stratum.next_quiet] if quiet else 2 * [_Stratum.next_event, _Stratum.next_row]:
        turns = [(stratum.count, ranks[i], i) for i, stratum in enumerate(strata)]
        heapq.heapify(turns)
        while turns:
            _, rank, i = heapq.heappop(turns)
            if (row := rows_of(strata[i])) is not None:
                yield row, rows_of is _Stratum.next_event
                heapq.heappush(turns, (strata[i].count, rank, i))
        if rows_of is _Stratum.next_row:
            for stratum in strata:
                stratum.admit_all()


class _Stratum:
    """The rows of one stratum. ``taken`` are the times that are chosen already, by camera, sorted."""

    def __init__(
        self, candidates: Candidates, rows: npt.NDArray[np.int64], gap_ms: int, taken: dict[int, list[int]]
    ) -> None:
        self.count = 0
        self._c = candidates
        self._rows = rows
        self._gap_ms = gap_ms
        self._taken = taken
        self._free = np.ones(len(rows), np.bool_)
        self._admitted = candidates.sure[rows]
        self._open = np.ones(len(rows), np.bool_)  # of an event that no row is of
        self._signature = candidates.signature[
            candidates.signature_index[rows[candidates.signature_index[rows] >= 0]]
        ].astype(np.int16)
        # Before anything is chosen all are as far; then what is most new goes first, then what is earliest.
        self._far = np.full(len(rows), np.iinfo(np.int32).max, np.int32)
        self._score = candidates.score[rows].astype(np.int64)

    def admit_all(self) -> None:
        self._admitted = np.ones(len(self._rows), np.bool_)

    def next_event(self) -> int | None:
        """The best row of an event that is not covered yet."""
        while (among := self._free & self._admitted & self._open).any():
            event = self._c.event[self._rows[self._farthest(among)]]
            members = self._c.event[self._rows] == event
            self._open &= ~members
            while (left := self._free & members).any():
                best = int(np.argmax(np.where(left, self._score, -1)))
                if self._take(best):
                    return int(self._rows[best])
        return None

    def next_row(self) -> int | None:
        while (among := self._free & self._admitted).any():
            place = self._farthest(among)
            if self._take(place):
                return int(self._rows[place])
        return None

    def next_quiet(self) -> int | None:
        for place in np.argsort(self._c.order[self._rows], kind="stable").tolist():
            if self._free[place] and self._take(place):
                return int(self._rows[place])
        return None

    def _farthest(self, among: npt.NDArray[np.bool_]) -> int:
        far = np.where(among, self._far, -1)
        best = far == far.max()
        return int(np.argmax(np.where(best, self._score, -1)))

    def _take(self, place: int) -> bool:
        """Choose a row, unless one of its camera is too near in time."""
        self._free[place] = False
        row = self._rows[place]
        camera, at = int(self._c.camera[row]), int(self._c.timestamp_ms[row])
        times = self._taken.setdefault(camera, [])
        i = bisect.bisect_left(times, at)
        if any(abs(near - at) < self._gap_ms for near in times[max(0, i - 1) : i + 1]):
            return False
        times.insert(i, at)
        self.count += 1
        if not len(self._signature):  # quiet rows are all alike
            return True
        apart = self._signature - self._signature[place]
        distance = np.einsum("ij,ij->i", apart, apart, dtype=np.int32)
        np.minimum(self._far, distance, out=self._far)
        return True
