"""Leakage between splits: images of one split that have a look-alike in another split.

Two images are look-alikes if

- they have the same bytes (sha256), at any time, of any camera; or
- they are of the same camera and view, and have the same difference hash (dhash), at any time; or
- they are of the same camera and view, near in time (NEIGHBOURS), and their hashes differ in at most MAX_BITS bits.

Only the manifest is read, no image. ``verify`` and the report both use this module, so their counts agree. A still
scene has many look-alikes without a mistake in the splits: the counts are a warning, not a fault.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rhombus_dataset.errors import DatasetError
from rhombus_dataset.frame import Status

NEIGHBOURS: Final = 50
"""An image is compared with the 50 images of the other split that are nearest in time: 25 before, 25 after.
Comparing all pairs would take time that grows with the square of the images."""
MAX_BITS: Final = 4
"""Maximum number of differing bits, of 64, between the dhashes of look-alikes."""
NEAR_MS: Final = 60_000
"""Milliseconds up to which look-alikes count as near in time: 60 s, in which a parked car or a person at work
stays. Such look-alikes are a mistake in the splits more often than images of a still scene hours apart."""
MAX_PAIRS: Final = 200
"""Pairs that each comparison step keeps as examples, the most alike first. It limits memory, not the counts."""
EXAMPLES: Final = 3
"""Example pairs of two splits in the result of ``verify``: enough to check by hand."""
COLUMNS: Final = ("frame_id", "camera_uuid", "view", "split", "timestamp", "status", "dhash", "sha256")
"""Columns of the manifest that this module reads."""

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Bits = npt.NDArray[np.uint8]


class Pair(NamedTuple):
    """Two images that look alike. Pairs sort by likeness: the most alike first."""

    differs: bool
    """False for images with the same bytes."""
    bits: int
    """Differing bits of the hashes, 0 to 4; 0 for the same bytes."""
    gap_ms: int
    first: int
    """Row of the manifest."""
    second: int


@dataclass(frozen=True, slots=True)
class SplitLeakage:
    """The images of ``split`` that have a look-alike in split ``other``."""

    split: str
    other: str
    frames: int
    """Images of ``split`` in all."""
    look_alikes: int
    """Those with a look-alike in ``other``, the ones with the same bytes included."""
    near_in_time: int
    """Those with a look-alike of the same camera and view at most NEAR_MS away."""
    same_bytes: int
    """Those with the same bytes as an image of ``other``."""


@dataclass(frozen=True, slots=True)
class SplitAudit:
    """The leakage between two splits, in both directions, and example pairs: the most alike first."""

    sides: tuple[SplitLeakage, SplitLeakage]
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class CrossSplitDuplicates:
    """The leakage between two splits, in both directions, for readers of JSON.

    ``examples``: up to EXAMPLES pairs, each with the keys ``frame_id``, ``split``, ``other_frame_id``,
    ``other_split``, ``same_bytes``, ``differing_bits`` and ``apart_ms``.
    """

    sides: tuple[SplitLeakage, SplitLeakage]
    examples: tuple[dict[str, Any], ...]


class ImageIndex:
    """The images of a dataset (status ``ok``) in columns, ordered by camera, view and time.

    ``rows``: rows of the manifest, int64. ``split``: int64, an index of ``splits``. ``group``: int64, a code for
    camera and view. ``t_ms``: int64, UTC milliseconds. ``dhash``: uint64. ``content``: int64, one number for each
    distinct sha256. ``same_hash``: int64, one number for each distinct hash of a group.
    """

    def __init__(self, table: pa.Table, splits: list[str]) -> None:
        """``table``: the manifest, with COLUMNS. ``splits``: the names of the splits, in the order of the plan.

        Raises DatasetError if a dhash of the manifest is damaged.
        """
        is_ok = np.asarray(pc.equal(table.column("status"), str(Status.OK)), np.bool_)
        ok = np.flatnonzero(is_ok)
        table = table.take(pa.array(ok))
        camera, view = (_codes(table.column(name)) for name in ("camera_uuid", "view"))
        self.splits = splits
        split = np.asarray(pc.index_in(table.column("split"), value_set=pa.array(splits, pa.string())), np.int64)
        group = camera * (int(view.max(initial=0)) + 1) + view
        t_ms = np.asarray(table.column("timestamp").cast(pa.int64()), np.int64)
        order = np.lexsort((t_ms, group))
        self.rows: Ints = ok[order]
        self.split: Ints = split[order]
        self.group: Ints = group[order]
        self.t_ms: Ints = t_ms[order]
        self.dhash = _hashes(table.column("dhash"))[order]
        self.content = _codes(table.column("sha256"))[order]
        self.by_hash = np.lexsort((self.t_ms, self.dhash, self.group))
        changes = (np.diff(self.group[self.by_hash]) != 0) | (np.diff(self.dhash[self.by_hash]) != 0)
        self.same_hash: Ints = np.empty(len(ok), np.int64)
        self.same_hash[self.by_hash] = np.concatenate([np.zeros(min(1, len(ok)), np.int64), np.cumsum(changes)])

    def __len__(self) -> int:
        return len(self.rows)

    def bits(self, a: Ints, b: Ints) -> Bits:
        """Return the differing bits of the hashes of images ``a`` and ``b``: 64 where camera or view differ."""
        bits = _count_bits(self.dhash[a] ^ self.dhash[b])
        bits[self.group[a] != self.group[b]] = 64
        return bits

    def most_alike(self, bits: Bits, a: Ints, b: Ints) -> list[Pair]:
        """Return the look-alikes among the pairs ``a``, ``b``: at most MAX_PAIRS, the most alike ones."""
        close = np.flatnonzero(bits <= MAX_BITS)
        a, b, bits = a[close], b[close], bits[close]
        gaps = np.abs(self.t_ms[a] - self.t_ms[b])
        differs = self.content[a] != self.content[b]
        best = _smallest(((differs * (MAX_BITS + 1) + bits.astype(np.int64)) << 45) + gaps, MAX_PAIRS)
        rows = self.rows[a[best]], self.rows[b[best]]
        columns = (differs[best], bits[best], gaps[best], np.minimum(*rows), np.maximum(*rows))
        return list(map(Pair._make, zip(*(column.tolist() for column in columns), strict=True)))


def audit_splits(index: ImageIndex) -> list[SplitAudit]:
    """Return the leakage between every two splits that have images, in the order of the splits."""
    used = np.flatnonzero(np.bincount(index.split, minlength=1)).tolist()
    return [_audit(index, first, second) for first, second in itertools.combinations(used, 2)]


def cross_split_duplicates(table: pa.Table, splits: list[str]) -> tuple[CrossSplitDuplicates, ...]:
    """Return the leakage between every two splits that have images.

    ``table``: the manifest, with COLUMNS. ``splits``: the names of the splits, in the order of the plan.
    """
    cameras = _codes(table.column("camera_uuid"))

    def described(pair: Pair) -> dict[str, Any]:
        first, second = (table.slice(row, 1).select(["frame_id", "split"]).to_pylist()[0] for row in pair[3:])
        return {
            "frame_id": first["frame_id"],
            "split": first["split"],
            "other_frame_id": second["frame_id"],
            "other_split": second["split"],
            "same_bytes": not pair.differs,
            "differing_bits": pair.bits,
            "apart_ms": pair.gap_ms,
        }

    return tuple(
        CrossSplitDuplicates(
            audit.sides, tuple(map(described, example_pairs(audit.pairs, cameras, EXAMPLES, EXAMPLES)))
        )
        for audit in audit_splits(ImageIndex(table, splits))
    )


def same_bytes_across_splits(table: pa.Table) -> int:
    """Return how many images have the same bytes as an image of another split. Fast: no pairs are compared.

    ``table``: the manifest, with the columns `status`, `split` and `sha256`.
    """
    images = table.filter(pc.equal(table.column("status"), str(Status.OK)))
    groups = images.group_by("sha256").aggregate([("split", "count_distinct"), ([], "count_all")])
    shared = groups.filter(pc.greater(groups.column("split_count_distinct"), 1))
    return int(pc.sum(shared.column("count_all")).as_py() or 0)


def _audit(index: ImageIndex, first: int, second: int) -> SplitAudit:
    sides: list[SplitLeakage] = []
    pairs: set[Pair] = set()
    for own, other in ((first, second), (second, first)):
        of_own, of_other = np.flatnonzero(index.split == own), np.flatnonzero(index.split == other)
        same_bytes: Bools = np.isin(index.content[of_own], index.content[of_other])
        alike, near, found = _alike_nearby(index, of_own, of_other)
        alike |= same_bytes | np.isin(index.same_hash[of_own], index.same_hash[of_other])
        pairs.update(found, _equal_pairs(index, index.content, of_own, of_other))
        pairs.update(_equal_pairs(index, index.same_hash, of_own, of_other))
        counts = (int(flags.sum()) for flags in (alike, near, same_bytes))
        sides.append(SplitLeakage(index.splits[own], index.splits[other], len(of_own), *counts))
    return SplitAudit((sides[0], sides[1]), tuple(sorted(pairs)))


def _alike_nearby(index: ImageIndex, own: Ints, other: Ints) -> tuple[Bools, Bools, list[Pair]]:
    """Return which of ``own`` have a look-alike among the ``other`` images nearest in time, which of them have one
    at most NEAR_MS away, and example pairs."""
    alike: Bools = np.zeros(len(own), np.bool_)
    near: Bools = np.zeros(len(own), np.bool_)
    found: list[Pair] = []
    # One number that has the order of group and time.
    start = int(index.t_ms.min())
    step = int(index.t_ms.max()) - start + 1
    keys = [index.group[part] * step + (index.t_ms[part] - start) for part in (own, other)]
    place = np.searchsorted(keys[1], keys[0])
    for offset in range(-(NEIGHBOURS // 2), NEIGHBOURS // 2):
        there = np.flatnonzero((place + offset >= 0) & (place + offset < len(other)))
        a, b = own[there], other[place[there] + offset]
        bits = index.bits(a, b)
        alike[there] |= bits <= MAX_BITS
        near[there] |= (bits <= MAX_BITS) & (np.abs(index.t_ms[a] - index.t_ms[b]) <= NEAR_MS)
        found += index.most_alike(bits, a, b)
    return alike, near, found


def _equal_pairs(index: ImageIndex, values: Ints, own: Ints, other: Ints) -> list[Pair]:
    """Return pairs of one image of ``own`` and one of ``other`` with the same value."""
    distinct, first = np.unique(values[other], return_index=True)
    a = own[np.isin(values[own], distinct)]
    b = other[first[np.searchsorted(distinct, values[a])]]
    return index.most_alike(np.zeros(len(a), np.uint8), a, b)


def example_pairs(pairs: Iterable[Pair], camera_of: Ints, limit: int, per_camera: int) -> Iterator[Pair]:
    """Yield the first ``limit`` of the pairs: each image once, and at most ``per_camera`` pairs of a camera.

    ``camera_of``: the code of the camera for each row of the manifest.
    """
    used: set[int] = set()
    yielded: dict[int, int] = {}
    for pair in pairs:
        camera = int(camera_of[pair.first])
        if limit and not used & {pair.first, pair.second} and yielded.get(camera, 0) < per_camera:
            used |= {pair.first, pair.second}
            yielded[camera] = yielded.get(camera, 0) + 1
            limit -= 1
            yield pair


def _hashes(column: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    try:
        return np.frombuffer(bytes.fromhex("".join(column.to_pylist())), ">u8").astype(np.uint64)
    except (TypeError, ValueError):
        raise DatasetError(
            "the manifest has a dhash that is not 16 hex digits. Run `rhombus-dataset verify` for details"
        ) from None


def _codes(column: pa.ChunkedArray) -> Ints:
    """Return one number for each distinct value of a column: int64, in the order of the first occurrences."""
    return np.asarray(pc.index_in(column, value_set=pc.unique(column)), np.int64)


def _smallest(values: Ints, count: int) -> Ints:
    """Return the indices of the smallest values, in order; of equal values, the first. Like a stable argsort."""
    if len(values) <= count:
        return np.argsort(values, kind="stable")
    limit = np.partition(values, count)[count]
    below, equal = np.flatnonzero(values < limit), np.flatnonzero(values == limit)
    chosen = np.concatenate([below, equal[: count - len(below)]])
    return chosen[np.argsort(values[chosen], kind="stable")]


def _count_bits(values: npt.NDArray[np.uint64]) -> Bits:
    # numpy 1.26 has no bitwise_count.
    one, two, four = (np.uint64(m) for m in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F))
    values = values - ((values >> np.uint64(1)) & one)
    values = (values & two) + ((values >> np.uint64(2)) & two)
    values = (values + (values >> np.uint64(4))) & four
    return ((values * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.uint8)
