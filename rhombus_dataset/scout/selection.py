"""Choose few candidates of many: every event first, then the strata in turn, in each the most different one.

A pure function of its arguments, in integer arithmetic. The result is one order: a smaller count is its beginning.
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
    """What can be chosen, one row for each image.

    ``camera`` (int32), ``timestamp_ms`` (int64, UTC) and ``stratum`` (int32) are its place. ``event`` (int32) is
    its event, consecutive rows of a camera, or QUIET. ``score`` (int32) is the number of new cells, and ``sure``
    (bool) whether something is certainly there. ``signature_index`` (int32) is its row of ``signature`` (int8,
    (M, 48)), -1 for quiet rows. ``order`` (uint64) is the order of quiet rows.
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
    """Yield rows ``among`` the candidates in the order of selection, and whether each is the first of its event.

    First come the events without a chosen row: the stratum with such an event and the fewest chosen rows gives the
    event that differs most from its chosen rows. Then the stratum with the fewest chosen rows gives the row that
    differs most from them (farthest first: Gonzalez 1985, "Clustering to minimize the maximum intercluster
    distance"). Rows that are not sure follow when all sure ones are chosen. ``ranks`` decide between even strata.

    With ``quiet``, only quiet rows are chosen, in their order; otherwise only the others. Rows of one camera are at
    least ``gap_ms`` apart, also from those in ``taken`` (sorted times by camera), to which they are added.
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
    """The rows of one stratum. ``taken`` are the times that are already chosen, by camera, sorted."""

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
        self._open = np.ones(len(rows), np.bool_)  # of an event without a chosen row
        self._signature = candidates.signature[
            candidates.signature_index[rows[candidates.signature_index[rows] >= 0]]
        ].astype(np.int16)
        # At first all distances are equal: the row with the highest score is taken, of those the earliest.
        self._far = np.full(len(rows), np.iinfo(np.int32).max, np.int32)
        self._score = candidates.score[rows].astype(np.int64)

    def admit_all(self) -> None:
        """Allow rows that are not sure as well."""
        self._admitted = np.ones(len(self._rows), np.bool_)

    def next_event(self) -> int | None:
        """Return the best row of an event without a chosen row. None if there is no such event."""
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
        """Return the row that differs most from the chosen ones. None if there are no more."""
        while (among := self._free & self._admitted).any():
            place = self._farthest(among)
            if self._take(place):
                return int(self._rows[place])
        return None

    def next_quiet(self) -> int | None:
        """Return the next quiet row. None if there are no more."""
        for place in np.argsort(self._c.order[self._rows], kind="stable").tolist():
            if self._free[place] and self._take(place):
                return int(self._rows[place])
        return None

    def _farthest(self, among: npt.NDArray[np.bool_]) -> int:
        far = np.where(among, self._far, -1)
        best = far == far.max()
        return int(np.argmax(np.where(best, self._score, -1)))

    def _take(self, place: int) -> bool:
        """Choose a row. Return False, and do not choose it, if a chosen row of its camera is too near in time."""
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
