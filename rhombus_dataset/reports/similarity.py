"""Which frames are nearly the same, and whether the splits keep them apart."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rhombus_dataset.reports.album import ALIKE_PAIRS, LEAK_PAIRS, Album
from rhombus_dataset.reports.frames import Bools, Frames, Hashes, Ints, Names
from rhombus_dataset.reports.text import duration_text, local_text

NEIGHBOURS: Final = 50
"""A frame is compared with so many others of its camera and view: all pairs would be too many."""
ALIKE_BITS: Final = 4
"""Two frames are alike where at most this many of the 64 bits of their difference hashes differ."""

_Pair = tuple[int, int, int, int]
"""Bits that differ, milliseconds between, and the two frames."""


class Pairs:
    """Frames that are there, compared by their difference hashes within a camera and view."""

    def __init__(self, frames: Frames, ok: Ints) -> None:
        group = frames.camera[ok] * (int(frames.view.max(initial=0)) + 1) + frames.view[ok]
        order = np.lexsort((frames.t_ms[ok], group))
        self.frames = frames
        self.rows: Ints = ok[order]
        """Ordered by camera, view and time."""
        self.group: Ints = group[order]
        self.t_ms: Ints = frames.t_ms[self.rows]
        self.split: Ints = frames.split[self.rows]
        self.hash: Hashes = frames.dhash[self.rows]
        self.by_hash = np.lexsort((self.t_ms, self.hash, self.group))
        changes = (np.diff(self.group[self.by_hash]) != 0) | (np.diff(self.hash[self.by_hash]) != 0)
        self.same_hash: Ints = np.empty(len(ok), np.int64)
        """A number for each distinct hash of a camera and view."""
        self.same_hash[self.by_hash] = np.concatenate([np.zeros(min(1, len(ok)), np.int64), np.cumsum(changes)])

    def near(self, a: Ints, b: Ints) -> tuple[npt.NDArray[np.uint8], Ints]:
        """Bits that differ between the a-th and the b-th, 64 where camera or view do; time between them."""
        bits = _count_bits(self.hash[a] ^ self.hash[b])
        bits[self.group[a] != self.group[b]] = 64
        return bits, np.abs(self.t_ms[a] - self.t_ms[b])

    def worst(self, bits: npt.NDArray[np.uint8], gaps: Ints, a: Ints, b: Ints) -> list[_Pair]:
        """The most alike of these, bounded."""
        close = np.flatnonzero(bits <= ALIKE_BITS)
        best = close[np.lexsort((a[close], gaps[close], bits[close]))][:200]
        return list(
            zip(
                bits[best].tolist(),
                gaps[best].tolist(),
                self.rows[a[best]].tolist(),
                self.rows[b[best]].tolist(),
                strict=True,
            )
        )


def _count_bits(values: Hashes) -> npt.NDArray[np.uint8]:
    # numpy 1.26 has no bitwise_count.
    one, two, four = (np.uint64(m) for m in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F))
    values = values - ((values >> np.uint64(1)) & one)
    values = (values & two) + ((values >> np.uint64(2)) & two)
    values = (values + (values >> np.uint64(4))) & four
    return ((values * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.uint8)


def _told(pairs: list[_Pair], limit: int, per_camera: int, frames: Frames) -> Iterator[_Pair]:
    """The first of the pairs, each frame once, and no camera's pairs alone."""
    used: set[int] = set()
    told: dict[int, int] = {}
    for pair in pairs:
        camera = int(frames.camera[pair[2]])
        if limit and not used & {pair[2], pair[3]} and told.get(camera, 0) < per_camera:
            used |= {pair[2], pair[3]}
            told[camera] = told.get(camera, 0) + 1
            limit -= 1
            yield pair


def _show(pair: _Pair, album: Album, frames: Frames) -> dict[str, Any]:
    bits, gap_ms, a, b = pair
    a, b = (a, b) if (frames.t_ms[a], a) <= (frames.t_ms[b], b) else (b, a)
    same = frames.image[a] == frames.image[b]
    what = "the same bytes" if same else "the same hash" if not bits else f"{bits} of 64 bits differ"
    return {"frames": [album.figure(i) for i in (a, b)], "what": what, "gap": duration_text(gap_ms)}


def alike_section(pairs: Pairs, names: Names, album: Album) -> dict[str, Any]:
    n = len(pairs.rows)
    has_alike = np.zeros(n, np.bool_)
    everything = np.arange(n)
    found: list[_Pair] = []
    for lag in range(1, min(NEIGHBOURS + 1, n)):
        a, b = everything[:-lag], everything[lag:]
        bits, gaps = pairs.near(a, b)
        has_alike[:-lag] |= bits <= ALIKE_BITS
        has_alike[lag:] |= bits <= ALIKE_BITS
        found += pairs.worst(bits, gaps, a, b)
    a, b = pairs.by_hash[:-1], pairs.by_hash[1:]
    equal = pairs.same_hash[a] == pairs.same_hash[b]
    has_alike[a[equal]] = has_alike[b[equal]] = True
    found += pairs.worst(*pairs.near(a, b), a, b)
    image = pairs.frames.image
    unique = sorted(set(found), key=lambda p: (image[p[2]] != image[p[3]], p))
    told = _told(unique, ALIKE_PAIRS, max(3, -(-ALIKE_PAIRS // len(names.cameras))), pairs.frames)
    _, inverse, counts = np.unique(image[pairs.rows], return_inverse=True, return_counts=True)
    identical = counts[inverse] > 1 if n else np.zeros(0, np.bool_)
    camera = pairs.frames.camera[pairs.rows]
    sums = [
        np.bincount(camera[part], minlength=len(names.cameras)).tolist()
        for part in (camera >= 0, has_alike, identical)
    ]
    return {
        "pairs": [_show(pair, album, pairs.frames) for pair in told],
        "rows": [row for row in zip(names.cameras, *sums, strict=True) if row[1]],
        "count": int(has_alike.sum()),
        "identical": int(identical.sum()),
    }


def leaks_section(pairs: Pairs, names: Names, album: Album) -> list[dict[str, Any]]:
    """For every two splits: how near they come to each other, in time and in looks."""
    used = [s for s in range(len(names.splits)) if (pairs.split == s).any()]
    both = list(itertools.combinations(used, 2))
    frames, audits = pairs.frames, []
    for first, second in both:
        of = {s: np.flatnonzero(pairs.split == s) for s in (first, second)}
        found: list[_Pair] = []
        sides = []
        for own, other in ((first, second), (second, first)):
            alike, worst = _alike_across(pairs, of[own], of[other])
            sides.append((names.splits[own], names.splits[other], int(alike.sum()), len(alike)))
            found += worst
        told = _told(
            sorted({(d, g, min(a, b), max(a, b)) for d, g, a, b in found}),
            LEAK_PAIRS // len(both),
            2,
            frames,
        )
        rows = pairs.rows[np.concatenate([of[first], of[second]])]
        image = [frames.image[pairs.rows[of[s]]] for s in (first, second)]
        audits.append(
            {
                "names": (names.splits[first], names.splits[second]),
                "sides": sides,
                "gap": _smallest_gap(frames, rows, names),
                "identical": int(np.isin(image[0], image[1]).sum()),
                "pairs": [_show(pair, album, frames) for pair in told],
            }
        )
    return audits


def _alike_across(pairs: Pairs, own: Ints, other: Ints) -> tuple[Bools, list[_Pair]]:
    """Which of ``own`` have a look-alike among the ``other`` frames nearest in time, or of the same hash."""
    alike: Bools = np.isin(pairs.same_hash[own], pairs.same_hash[other])
    found: list[_Pair] = []
    # One number that orders as group and time do.
    start = int(pairs.t_ms.min())
    step = int(pairs.t_ms.max()) - start + 1
    keys = [pairs.group[part] * step + (pairs.t_ms[part] - start) for part in (own, other)]
    place = np.searchsorted(keys[1], keys[0])
    for offset in range(-(NEIGHBOURS // 2), NEIGHBOURS // 2):
        there = np.flatnonzero((place + offset >= 0) & (place + offset < len(other)))
        a, b = own[there], other[place[there] + offset]
        bits, gaps = pairs.near(a, b)
        alike[there] |= bits <= ALIKE_BITS
        found += pairs.worst(bits, gaps, a, b)
    return alike, found


def _smallest_gap(frames: Frames, rows: Ints, names: Names) -> dict[str, Any] | None:
    rows = rows[np.lexsort((frames.t_ms[rows], frames.camera[rows]))]
    across = (np.diff(frames.camera[rows]) == 0) & (np.diff(frames.split[rows]) != 0)
    if not across.any():
        return None
    gaps = np.where(across, np.diff(frames.t_ms[rows]), np.iinfo(np.int64).max)
    i = int(gaps.argmin())
    before, after = (local_text(int(frames.local_ms[rows[j]])) for j in (i, i + 1))
    camera = names.cameras[frames.camera[rows[i]]]
    return {"text": duration_text(int(gaps[i])), "camera": camera, "before": before, "after": after}
