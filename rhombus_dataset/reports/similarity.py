"""Look-alikes in the report: within the dataset, and across splits."""

from __future__ import annotations

from typing import Any

import numpy as np

from rhombus_dataset.quality.leakage import (
    MAX_BITS,
    NEIGHBOURS,
    Bools,
    ImageIndex,
    Ints,
    Pair,
    audit_splits,
    example_pairs,
)
from rhombus_dataset.reports.album import ALIKE_PAIRS, LEAK_PAIRS, Album
from rhombus_dataset.reports.frames import Frames, Names
from rhombus_dataset.reports.text import duration_text, local_text


def alike_section(index: ImageIndex, frames: Frames, names: Names, album: Album) -> dict[str, Any]:
    """Return how many images of each camera have a look-alike of the same camera and view, with the closest pairs.

    An image is compared with the next NEIGHBOURS images in time, and with all that have the same hash.
    """
    has_alike, pairs = _alike(index)
    per_camera = max(3, -(-ALIKE_PAIRS // len(names.cameras)))
    _, inverse, counts = np.unique(index.content, return_inverse=True, return_counts=True)
    same_bytes: Bools = counts[inverse] > 1 if len(index) else np.zeros(0, np.bool_)
    camera = frames.camera[index.rows]
    sums = [
        np.bincount(camera[part], minlength=len(names.cameras)).tolist()
        for part in (camera >= 0, has_alike, same_bytes)
    ]
    return {
        "pairs": [
            _show(pair, album, frames) for pair in example_pairs(pairs, frames.camera, ALIKE_PAIRS, per_camera)
        ],
        "rows": [row for row in zip(names.cameras, *sums, strict=True) if row[1]],
        "count": int(has_alike.sum()),
        "same_bytes": int(same_bytes.sum()),
    }


def _alike(index: ImageIndex) -> tuple[Bools, list[Pair]]:
    n = len(index)
    has_alike: Bools = np.zeros(n, np.bool_)
    everything = np.arange(n)
    pairs: set[Pair] = set()
    for lag in range(1, min(NEIGHBOURS + 1, n)):
        a, b = everything[:-lag], everything[lag:]
        bits = index.bits(a, b)
        has_alike[:-lag] |= bits <= MAX_BITS
        has_alike[lag:] |= bits <= MAX_BITS
        pairs.update(index.most_alike(bits, a, b))
    a, b = index.by_hash[:-1], index.by_hash[1:]
    equal = index.same_hash[a] == index.same_hash[b]
    has_alike[a[equal]] = has_alike[b[equal]] = True
    pairs.update(index.most_alike(index.bits(a, b), a, b))
    return has_alike, sorted(pairs)


def leaks_section(index: ImageIndex, frames: Frames, names: Names, album: Album) -> list[dict[str, Any]]:
    """Return, for every two splits, the look-alikes across them and the smallest gap in time between them."""
    audits = audit_splits(index)
    return [
        {
            "sides": audit.sides,
            "gap": _smallest_gap(
                frames, index.rows[np.isin(index.split, [index.splits.index(s.split) for s in audit.sides])], names
            ),
            "pairs": [
                _show(pair, album, frames)
                for pair in example_pairs(audit.pairs, frames.camera, LEAK_PAIRS // len(audits), 2)
            ],
        }
        for audit in audits
    ]


def _show(pair: Pair, album: Album, frames: Frames) -> dict[str, Any]:
    a, b = sorted((pair.first, pair.second), key=lambda row: (frames.t_ms[row], row))
    if not pair.differs:
        what = "the same bytes"
    elif pair.bits == 0:
        what = "the same hash"
    else:
        what = f"{pair.bits} of 64 bits differ"
    return {"frames": [album.figure(i) for i in (a, b)], "what": what, "gap": duration_text(pair.gap_ms)}


def _smallest_gap(frames: Frames, rows: Ints, names: Names) -> dict[str, Any] | None:
    """Return the smallest time between two images of one camera in different splits, if a camera is in both."""
    rows = rows[np.lexsort((frames.t_ms[rows], frames.camera[rows]))]
    across = (np.diff(frames.camera[rows]) == 0) & (np.diff(frames.split[rows]) != 0)
    if not across.any():
        return None
    gaps = np.where(across, np.diff(frames.t_ms[rows]), np.iinfo(np.int64).max)
    i = int(gaps.argmin())
    before, after = (local_text(int(frames.local_ms[rows[j]])) for j in (i, i + 1))
    camera = names.cameras[frames.camera[rows[i]]]
    return {"text": duration_text(int(gaps[i])), "camera": camera, "before": before, "after": after}
