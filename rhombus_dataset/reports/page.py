"""The HTML report of a dataset: coverage, failures, images, measures and leakage between splits.

It is computed from the dataset's files alone, so the same dataset gives the same bytes. The page is one file and
makes no network requests.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rhombus_dataset.dataset import open_dataset
from rhombus_dataset.html.render import html
from rhombus_dataset.planning.lock_file import load_lock
from rhombus_dataset.planning.rounds import rounds
from rhombus_dataset.planning.splits import splits_in_words
from rhombus_dataset.quality.leakage import MAX_BITS, NEAR_MS, NEIGHBOURS, ImageIndex
from rhombus_dataset.reports.album import (
    MAX_IMAGE_BYTES,
    MAX_IMAGES,
    THUMBNAIL_PX,
    Album,
    choose_labelled,
    choose_sheet,
    lowest,
)
from rhombus_dataset.reports.choices import choices_section
from rhombus_dataset.reports.counts import counts_section
from rhombus_dataset.reports.coverage import (
    HOURS,
    days_of,
    facts_section,
    heat_section,
    outcomes_section,
    reasons_section,
    timeline_section,
)
from rhombus_dataset.reports.frames import OK, STATUSES, Names, manifest_table, read_frames
from rhombus_dataset.reports.measures import measures_section
from rhombus_dataset.reports.sections import findings_section, labels_section, plan_text, splits_section
from rhombus_dataset.reports.similarity import alike_section, leaks_section
from rhombus_dataset.store import layout, manifest
from rhombus_dataset.store.files import remove_leftovers, write_file


def write_report(dataset: Path, out: Path | None = None) -> Path:
    """Write the report of the dataset in a folder, and return its path: report.html in that folder by default.

    Raises DatasetError if the folder has no dataset, and StorageError.
    """
    path = dataset / layout.REPORT_FILE if out is None else out
    remove_leftovers(path)
    write_file(path, report_html(dataset).encode())
    return path


def report_html(dataset: Path) -> str:
    """Return the page, a pure function of the dataset's files. Raises DatasetError if the folder has no dataset."""
    lock = load_lock(dataset)
    schedules = rounds(dataset, lock)
    schedule = schedules[0]
    # A build may have been stopped before its first shard was committed.
    opened = open_dataset(dataset, duplicates=True) if manifest.slice_paths(dataset) else None
    names = Names.of(lock)
    frames = read_frames(dataset, lock, schedules, opened, names)
    album = Album(dataset, opened, names, frames)
    ok = np.flatnonzero(frames.status == OK)
    days = days_of(frames)
    index = ImageIndex(manifest_table(opened), names.splits)
    alike = alike_section(index, frames, names, album)
    leaks = leaks_section(index, frames, names, album)
    extremes = [
        ("Darkest", "Lowest mean grey value (0 is black, 255 is white).", lowest(frames.luma, ok)),
        (
            "Blurriest",
            "Lowest variance of the Laplacian, in squared grey levels: flat, fogged or out of focus.",
            lowest(frames.sharpness, ok),
        ),
    ]
    extreme_figures = [(title, what, [album.figure(i, days) for i in rows]) for title, what, rows in extremes]
    labelled = [album.figure(i) for i in choose_labelled(frames, opened)]
    chosen, failed = choose_sheet(frames)
    # In the order of the choice: if the page reaches its limit, the omitted images are spread evenly as well.
    shown = {i: album.figure(i, days) for i in [*chosen, *failed]}
    sheets = [shown[i] for i in sorted(shown, key=lambda i: (frames.camera[i], frames.hour[i], frames.t_ms[i], i))]
    values = {
        "facts": facts_section(dataset, lock, schedules, frames, names),
        "counts": counts_section(dataset, opened, frames, names),
        "notes": schedule.notes,
        "outcomes": outcomes_section(frames, names),
        "reasons": reasons_section(frames, names),
        "hours": heat_section(frames, names, frames.hour, HOURS, "hour"),
        "days": heat_section(frames, names, days.bins, [(d.label, d.long) for d in days.columns], "day"),
        "day_unit": days.unit,
        "timeline": timeline_section(frames, names),
        "sheets": [(name, [f for f in sheets if f["camera"] == c]) for c, name in enumerate(names.cameras)],
        "sheet_count": len(chosen),
        "failed_tiles": len(failed),
        "extremes": extreme_figures,
        "alike": alike,
        "measures": measures_section(frames, ok, names),
        "splits": splits_section(frames, names),
        "split_rule": splits_in_words(lock.splits),
        "leaks": leaks,
        "labels": labels_section(opened, frames, names),
        "labelled": labelled,
        "choices": choices_section(manifest_table(opened), lock, frames),
        "plan": plan_text(dataset),
        "album": album,
        "columns": {
            "camera": names.cameras,
            "hour": [label for label, _ in HOURS],
            "day": [d.label for d in days.columns],
            "split": names.splits,
            "view": names.views,
            "status": STATUSES,
        },
        "used_statuses": [i for i in range(len(STATUSES)) if (frames.status == i).any()],
        "limits": {
            "thumbnail_px": THUMBNAIL_PX,
            "images": MAX_IMAGES,
            "megabytes": MAX_IMAGE_BYTES / 1e6,
            "neighbours": NEIGHBOURS,
            "bits": MAX_BITS,
            "near_s": NEAR_MS // 1000,
        },
    }
    values["findings"] = findings_section(schedule, frames, ok, opened, alike, leaks)
    return html("report.html.j2", **values)
