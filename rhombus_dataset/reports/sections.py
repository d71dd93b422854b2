"""What the dataset is for: its splits, its labels and its plan; and what to look at first."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from rhombus_dataset.dataset import Dataset
from rhombus_dataset.planning.schedule import Schedule
from rhombus_dataset.reports.frames import OK, PENDING, Frames, Ints, Names, cross_table
from rhombus_dataset.reports.text import counted, percent_of
from rhombus_dataset.store import layout

DARK_LUMA: Final = 16
_MAX_LABELS: Final = 50


def splits_section(frames: Frames, names: Names) -> dict[str, Any]:
    shape = len(names.cameras), len(names.splits)
    came = frames.status == OK
    planned = cross_table(frames.camera, frames.split, *shape)
    ok = cross_table(frames.camera[came], frames.split[came], *shape)
    total = max(1, int(ok.sum()))
    return {
        "names": names.splits,
        "rows": [
            (name, list(zip(ok[c].tolist(), planned[c].tolist(), strict=True)))
            for c, name in enumerate(names.cameras)
        ],
        "totals": [
            (int(n), int(p), 100 * int(n) / total) for n, p in zip(ok.sum(axis=0), planned.sum(axis=0), strict=True)
        ],
    }


def labels_section(dataset: Dataset | None, frames: Frames, names: Names) -> dict[str, Any] | None:
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
    }


def plan_text(folder: Path) -> str | None:
    try:
        return (folder / layout.PLAN_FILE).read_text(errors="replace")
    except OSError:
        return None


def findings_section(
    schedule: Schedule,
    frames: Frames,
    ok: Ints,
    dataset: Dataset | None,
    alike: dict[str, Any],
    leaks: list[dict[str, Any]],
) -> list[tuple[str, str]]:
    """What a reader should look at first: sentence and section."""
    found: list[tuple[str, str]] = []
    lost = int(((frames.status != OK) & (frames.status != PENDING)).sum())
    if lost:
        found.append(
            (
                f"{lost:,} of {len(frames):,} planned frames ({percent_of(lost, len(frames))}) are not there.",
                "outcomes",
            )
        )
    if schedule.shortfalls:
        found.append(
            (
                f"{len(schedule.shortfalls):,} strata (such as cameras and hours) could not give their share.",
                "coverage",
            )
        )
    if dataset is not None and (
        warned := dataset.manifest.num_rows - dataset.manifest.column("warning").null_count
    ):
        found.append(
            (
                f"{counted(warned, 'frame carries', 'frames carry')} a warning of the source (column warning).",
                "outcomes",
            )
        )
    dark = int((frames.luma[ok] < DARK_LUMA).sum())
    if dark:
        found.append(
            (
                f"{counted(dark, 'frame is', 'frames are')} nearly black (mean grey below {DARK_LUMA} of 255).",
                "oddest",
            )
        )
    if alike["identical"]:
        found.append(
            (
                f"{alike['identical']:,} frames have the same bytes as another: a placeholder, or a still image?",
                "alike",
            )
        )
    for audit in leaks:
        own, other, n, of = max(audit["sides"], key=lambda side: side[2] / side[3])
        if n:
            found.append(
                (f"{n:,} of {of:,} frames of {own} ({percent_of(n, of)}) have a look-alike in {other}.", "leaks")
            )
    return found
