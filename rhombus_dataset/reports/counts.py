"""The counts at the top of the page, from the planned moments to the images on the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from rhombus_dataset.dataset import Dataset
from rhombus_dataset.dataset.duplicates import read_duplicates
from rhombus_dataset.quality.text import counted
from rhombus_dataset.reports.frames import OK, STATUSES, Frames, Ints, Names, manifest_table
from rhombus_dataset.reports.text import percent_of


def counts_section(folder: Path, dataset: Dataset | None, frames: Frames, names: Names) -> dict[str, Any]:
    """Return the number of moments, of planned frames by status, and of the frames that ``open_dataset`` gives.

    A moment is a camera and a time. It has one planned frame for each view of its camera. ``by_views``: texts
    such as `3 moments with 2 views`. ``without``: status, count and share of the planned
    frames that have no image. ``repeats``: the images that readers skip as near-duplicates.
    """
    planned = len(frames)
    views_of_moment = _views_of_moments(frames, names)
    views, moments = np.unique(views_of_moment, return_counts=True)
    by_status = np.bincount(frames.status, minlength=len(STATUSES)).tolist()
    ok = by_status[OK]
    repeats = 0
    if dataset is not None and (listed := read_duplicates(folder)).num_rows:
        table = manifest_table(dataset)
        is_repeat = pc.is_in(table.column("frame_id"), value_set=listed.column("frame_id"))
        repeats = int((np.asarray(is_repeat) & (frames.status[: table.num_rows] == OK)).sum())
    return {
        "moments": len(views_of_moment),
        "by_views": [
            f"{counted(n, 'moment')} with {counted(v, 'view')}"
            for v, n in zip(views.tolist(), moments.tolist(), strict=True)
        ],
        "planned": planned,
        "ok": ok,
        "ok_share": percent_of(ok, planned) if planned else "",
        "without": [
            (status, n, percent_of(n, planned))
            for i, (status, n) in enumerate(zip(STATUSES, by_status, strict=True))
            if n and i != OK
        ],
        "repeats": repeats,
        "opened": ok - repeats,
    }


def _views_of_moments(frames: Frames, names: Names) -> Ints:
    """Return the number of planned frames of each moment: int64, (M,)."""
    _, counts = np.unique(frames.t_ms * max(1, len(names.cameras)) + frames.camera, return_counts=True)
    return np.asarray(counts, np.int64)
