"""The images of the report, and the choice of frames that it shows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rhombus_dataset.dataset import Dataset, Frame
from rhombus_dataset.errors import DatasetError
from rhombus_dataset.html.render import data_uri
from rhombus_dataset.imaging.jpeg import DamagedImage, thumbnail
from rhombus_dataset.reports.boxes import colours_of, overlay
from rhombus_dataset.reports.choices import reasons
from rhombus_dataset.reports.coverage import Days
from rhombus_dataset.reports.frames import OK, PENDING, STATUSES, Bools, Frames, Ints, Names
from rhombus_dataset.reports.text import local_text

THUMBNAIL_PX: Final = 160
"""Width of a thumbnail in pixels: the scene is recognisable, and a thumbnail takes about 5 kB."""
MAX_IMAGES: Final = 240
"""Maximum images of the page. More make it slow to scroll on a phone."""
MAX_IMAGE_BYTES: Final = 4_000_000
"""Maximum bytes of all thumbnails together, in base64: small enough to send the page by e-mail."""
EXTREMES: Final = 7
"""Frames shown for each kind of extreme: one row on a wide screen."""
ALIKE_PAIRS: Final = 8
"""Pairs of look-alikes shown."""
LEAK_PAIRS: Final = 12
"""Pairs of look-alikes across splits shown: four for every two splits, if there are three splits."""
LABELLED: Final = 7
"""Images with boxes shown beside the labels: one row on a wide screen."""
SHEET_IMAGES: Final = MAX_IMAGES - 2 * EXTREMES - LABELLED - 2 * (ALIKE_PAIRS + LEAK_PAIRS)
"""Images on the contact sheets: what MAX_IMAGES leaves for them."""
MAX_TOOLTIP: Final = 500
"""Characters of a tooltip: a text of a dataset of somebody else has any length."""
FAILED_TILES: Final = 24
"""Frames without an image that the contact sheets show as grey tiles: enough to see a pattern."""


class Album:
    """The thumbnails of the page, up to MAX_IMAGES and MAX_IMAGE_BYTES. ``shown`` and ``bytes`` count them."""

    def __init__(self, folder: Path, dataset: Dataset | None, names: Names, frames: Frames) -> None:
        self._folder, self._names, self._frames = folder, names, frames
        self._dataset = dataset
        ok = np.flatnonzero(frames.status == OK)
        self._number = dict(zip(ok.tolist(), range(len(ok)), strict=True))
        labels = [] if dataset is None else pc.unique(dataset.annotations().column("label")).to_pylist()
        self._colours = colours_of(labels)
        self._columns = () if dataset is None else dataset.columns
        self.bytes = 0
        self.shown = 0

    def figure(self, i: int, days: Days | None = None) -> dict[str, Any]:
        """Return the values of the template for row ``i`` of the frames: its thumbnail, or why there is none."""
        f, names = self._frames, self._names
        image, note, frame_id, drawn, chosen_for = None, None, "", None, None
        if (number := self._number.get(i)) is None or self._dataset is None:
            note = f"{STATUSES[f.status[i]]}: {f.reason[i]}" if f.reason[i] else STATUSES[f.status[i]]
        else:
            frame = self._dataset[number]
            frame_id = frame.frame_id
            chosen_for = self._choice(frame)
            try:
                uri = data_uri(thumbnail(frame.read(), THUMBNAIL_PX))
                if self.bytes + len(uri) <= MAX_IMAGE_BYTES and self.shown < MAX_IMAGES:
                    image = uri
                    self.bytes += len(uri)
                    self.shown += 1
                    if f.width[i] and f.height[i]:
                        drawn = overlay(frame.annotations, (int(f.width[i]), int(f.height[i])), self._colours)
                else:
                    note = "not shown: the page has reached its size limit"
            except (DatasetError, DamagedImage) as error:
                # Without the folder: a copy of the dataset has the same report.
                note = f"cannot be shown: {str(error).replace(f'{self._folder}/', '')}"
        local = local_text(int(f.local_ms[i]))
        return {
            "camera": int(f.camera[i]),
            "hour": int(f.hour[i]),
            "day": 0 if days is None else int(days.bins[i]),
            "split": int(f.split[i]),
            "view": int(f.view[i]),
            "status": int(f.status[i]),
            "camera_name": names.cameras[f.camera[i]],
            "local": local,
            "view_name": names.views[f.view[i]],
            "split_name": names.splits[f.split[i]],
            "image": image,
            "note": note,
            "frame_id": frame_id,
            "drawn": drawn,
            "choice": chosen_for,
            "width": THUMBNAIL_PX,
            "height": round(THUMBNAIL_PX * min(1.5, int(f.height[i]) / int(f.width[i]))) if f.width[i] else 90,
            "luma": None if image is None else float(f.luma[i]),
            "sharpness": None if image is None else float(f.sharpness[i]),
        }

    def _choice(self, frame: Frame) -> tuple[str, str] | None:
        """Return why a scout pass chose a frame, in short and in full. None without a scout pass."""
        if not {"chosen_for", "score"} <= set(self._columns) or frame.chosen_for is None:
            return None
        score = "" if frame.score is None or not math.isfinite(frame.score) else f"score {frame.score:.3f}"
        short = reasons(pa.chunked_array([[frame.chosen_for]]))[0].as_py()
        return ", ".join(text for text in (short, score) if text), frame.chosen_for[:MAX_TOOLTIP]


def choose_labelled(frames: Frames, dataset: Dataset | None) -> list[int]:
    """Return the rows of up to LABELLED frames that have an image and boxes, of all cameras and hours in turn."""
    if dataset is None:
        return []
    annotations = dataset.annotations()
    with_boxes = annotations.filter(pc.equal(annotations.column("kind"), "box")).column("frame_id")
    has_boxes = np.asarray(pc.is_in(dataset.manifest.column("frame_id"), value_set=with_boxes))
    return _spread(
        frames,
        np.concatenate([has_boxes, np.zeros(len(frames) - len(has_boxes), np.bool_)]) & (frames.status == OK),
        LABELLED,
    )


def choose_sheet(frames: Frames) -> tuple[list[int], list[int]]:
    """Return the rows of the frames that the contact sheets show: with an image, and without."""
    built = frames.status != PENDING
    ok = frames.status == OK
    return _spread(frames, built & ok, SHEET_IMAGES), _spread(frames, built & ~ok, FAILED_TILES)


def _spread(frames: Frames, chosen: Bools, count: int) -> list[int]:
    """Return one random frame of every camera and hour, then a second of each, and so on, up to ``count``."""
    rows = np.flatnonzero(chosen)
    cell = frames.camera[rows] * 24 + frames.hour[rows]
    rows = rows[order := np.lexsort((frames.draw[rows], cell))]
    cell = cell[order]
    round_ = np.arange(len(rows)) - np.searchsorted(cell, cell)
    found: list[int] = rows[np.lexsort((frames.draw[rows], round_))][:count].tolist()
    return found


def lowest(values: npt.NDArray[np.float64], ok: Ints) -> list[int]:
    """Return the rows of ``ok`` with the lowest values, up to EXTREMES."""
    found: list[int] = ok[np.argsort(values[ok], kind="stable")[:EXTREMES]].tolist()
    return found
