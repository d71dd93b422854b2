"""Sections on splits, labels and the plan; and the findings at the top of the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from rhombus_dataset.dataset import Dataset
from rhombus_dataset.errors import DatasetError
from rhombus_dataset.planning.schedule import Schedule
from rhombus_dataset.quality.text import counted
from rhombus_dataset.reports.frames import OK, PENDING, STATUSES, Frames, Ints, Names, cross_table
from rhombus_dataset.reports.text import percent_of
from rhombus_dataset.store import layout
from rhombus_dataset.store.files import inside

DARK_LUMA: Final = 16
"""Mean grey value, 0 to 255, below which an image counts as nearly black. Video black is 16."""
_WITHOUT_IMAGE: Final = [i for i in range(len(STATUSES)) if i not in (OK, PENDING)]
_MAX_LABELS: Final = 50
"""Rows of the table of labels: about two screens."""


def splits_section(frames: Frames, names: Names) -> dict[str, Any]:
    """Return the images and the planned frames of each camera and split."""
    shape = len(names.cameras), len(names.splits)
    is_ok = frames.status == OK
    planned = cross_table(frames.camera, frames.split, *shape)
    ok = cross_table(frames.camera[is_ok], frames.split[is_ok], *shape)
    total = int(ok.sum())
    return {
        "names": names.splits,
        "rows": [
            (
                name,
                list(zip(ok[c].tolist(), planned[c].tolist(), strict=True)),
                (int(ok[c].sum()), int(planned[c].sum())),
            )
            for c, name in enumerate(names.cameras)
        ],
        "totals": [
            (int(n), int(p), 100 * int(n) / max(1, total))
            for n, p in zip(ok.sum(axis=0), planned.sum(axis=0), strict=True)
        ],
        "all": (total, int(planned.sum())),
    }


def labels_section(dataset: Dataset | None, frames: Frames, names: Names) -> dict[str, Any] | None:
    """Return the annotations of each label and split, the most frequent labels first. None without annotations."""
    table = None if dataset is None else dataset.annotations()
    if dataset is None or table is None or not table.num_rows:
        return None
    of = dataset.to_pandas()[["frame_id", "split"]]
    merged = table.select(["frame_id", "kind", "label"]).to_pandas().merge(of, on="frame_id")
    counts = merged.groupby(["label", "kind", "split"]).size().unstack("split", fill_value=0)
    counts = counts.reindex(columns=names.splits, fill_value=0)
    most = counts.sum(axis=1).sort_values(ascending=False, kind="stable")
    annotated = merged.drop_duplicates("frame_id")["split"].value_counts()
    in_split = np.bincount(frames.split[frames.status == OK], minlength=len(names.splits)).tolist()
    return {
        "splits": names.splits,
        "rows": [
            (str(label), str(kind), counts.loc[(label, kind)].astype(int).tolist(), int(n))
            for (label, kind), n in most.head(_MAX_LABELS).items()
        ],
        "of": len(most),
        "annotated": [(int(annotated.get(s, 0)), n) for s, n in zip(names.splits, in_split, strict=True)],
        "boxes": int((merged["kind"] == "box").sum()),
        "all_annotated": (int(annotated.sum()), sum(in_split)),
    }


def plan_text(folder: Path) -> str | None:
    """Return the text of plan.yaml, or None if it cannot be read."""
    try:
        return inside(folder, layout.PLAN_FILE).read_text(errors="replace")
    except (OSError, DatasetError):
        return None


def findings_section(
    schedule: Schedule,
    frames: Frames,
    ok: Ints,
    dataset: Dataset | None,
    alike: dict[str, Any],
    leaks: list[dict[str, Any]],
) -> list[tuple[str, str]]:
    """Return what a reader should check first: a sentence, and the id of its section."""
    found: list[tuple[str, str]] = []
    planned, images = counted(len(frames), "planned frame"), counted(len(ok), "image")
    failed = int(((frames.status != OK) & (frames.status != PENDING)).sum())
    if failed:
        by_status = np.bincount(frames.status, minlength=len(STATUSES)).tolist()
        statuses = [f"{by_status[i]:,} {STATUSES[i]}" for i in _WITHOUT_IMAGE if by_status[i]]
        of = f"{planned} ({percent_of(failed, len(frames))})"
        found.append((f"{failed:,} of {of} {_have(failed)} no image: {', '.join(statuses)}.", "outcomes"))
    if schedule.shortfalls:
        strata = counted(len(schedule.shortfalls), "stratum", "strata")
        found.append((f"{strata} (such as camera and hour) had fewer moments than planned.", "coverage"))
    if dataset is not None and (
        warned := dataset.manifest.num_rows - dataset.manifest.column("warning").null_count
    ):
        text = f"{warned:,} of {planned} {_have(warned)} a warning from the source (column warning)."
        found.append((text, "outcomes"))
    dark = int((frames.luma[ok] < DARK_LUMA).sum())
    if dark:
        are = "is" if dark == 1 else "are"
        found.append((f"{dark:,} of {images} {are} nearly black (mean grey below {DARK_LUMA} of 255).", "extremes"))
    if same := alike["same_bytes"]:
        # Two at least: each is the same as the other.
        text = f"{same:,} of {images} have the same bytes as another: possibly placeholder images."
        found.append((text, "alike"))
    for audit in leaks:
        side = max(audit["sides"], key=lambda side: side.look_alikes / side.frames)
        if n := side.look_alikes:
            of = f"{counted(side.frames, 'image')} of split {side.split} ({percent_of(n, side.frames)})"
            found.append((f"{n:,} of {of} {_have(n)} a look-alike in split {side.other}.", "leaks"))
    return found


def _have(n: int) -> str:
    return "has" if n == 1 else "have"
