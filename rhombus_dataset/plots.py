"""Plots of a dataset with matplotlib. Each function returns a figure, and does not change the state of pyplot."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from rhombus_dataset.dataset import Dataset, Frame
from rhombus_dataset.errors import MissingExtra, UsageError
from rhombus_dataset.frame import Status
from rhombus_dataset.imaging.jpeg import Scale

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
except ModuleNotFoundError:
    raise MissingExtra("rhombus_dataset.plots", "plots") from None

# The palette of Okabe and Ito, which is distinguishable with colour blindness.
_COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
_STATUS_COLOURS: Final = {
    Status.OK: "#0072B2",
    Status.MISSING: "#E69F00",
    Status.FAILED: "#D55E00",
    Status.CORRUPT: "#CC79A7",
    Status.ERASED: "#999999",
}
_MAX_IMAGES: Final = 100
"""Maximum number of images of a plot: more are too small to see anything."""


def plot_coverage(dataset: Dataset) -> Figure:
    """Return a heat map of the number of frames by camera and local hour of the day."""
    figure, axes = _figure(dataset, rows=dataset.to_pandas()["camera_name"].nunique())
    if not len(dataset):
        return figure
    rows = dataset.to_pandas()
    hours = _local_hours(rows)
    counts = pd.crosstab(rows["camera_name"], hours).reindex(columns=range(24), fill_value=0)
    shown = axes.imshow(np.where(counts > 0, counts, np.nan), aspect="auto", cmap="cividis_r", vmin=0)
    figure.colorbar(shown, ax=axes, label="frames")
    if len(counts) <= 40:
        for (y, x), count in np.ndenumerate(counts.to_numpy()):
            if count:
                dark = count > counts.to_numpy().max() / 2
                axes.text(x, y, str(count), ha="center", va="center", size=7, color="white" if dark else "black")
    axes.set_xticks(range(24), [f"{hour:02d}" for hour in range(24)])
    axes.set_yticks(range(len(counts)), list(counts.index))
    axes.set_xlabel("local hour of the day")
    axes.set_title(f"{dataset.name}: frames by camera and hour")
    return figure


def plot_outcomes(dataset: Dataset) -> Figure:
    """Return a bar chart of the status of all planned frames of the whole dataset, by camera."""
    rows = dataset.manifest.select(["camera_name", "status"]).to_pandas()
    counts = pd.crosstab(rows["camera_name"], rows["status"])
    figure, axes = _figure(dataset, rows=len(counts), needs_frames=False)
    left = np.zeros(len(counts))
    for status in Status:
        if status in counts:
            values = counts[str(status)].to_numpy()
            axes.barh(counts.index, values, left=left, color=_STATUS_COLOURS[status], label=str(status))
            left += values
    axes.invert_yaxis()
    axes.set_xlabel("planned frames")
    axes.set_title(f"{dataset.name}: status of planned frames")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=5, frameon=False)
    return figure


def plot_timeline(dataset: Dataset) -> Figure:
    """Return a plot of the frames by time (UTC) and camera, coloured by split. Frames without image are crosses."""
    rows = dataset.manifest.select(["camera_name", "timestamp", "split", "status"]).to_pandas()
    cameras = {name: place for place, name in enumerate(sorted(rows["camera_name"].unique()))}
    figure, axes = _figure(dataset, rows=len(cameras), needs_frames=False)
    frames = dataset.to_pandas()
    for colour, split in zip(_COLOURS * 10, rows["split"].unique(), strict=False):
        part = frames[frames["split"] == split]
        places = part["camera_name"].map(cameras)
        axes.plot(part["timestamp"], places, "|", color=colour, markersize=12, label=split)
    without_image = rows[rows["status"] != Status.OK]
    if len(without_image):
        places = without_image["camera_name"].map(cameras) + 0.3
        axes.plot(without_image["timestamp"], places, "x", color="#D55E00", markersize=4, label="no image")
    axes.set_yticks(list(cameras.values()), list(cameras))
    axes.set_ylim(len(cameras) - 0.4, -0.6)
    axes.set_xlabel("UTC")
    axes.tick_params(axis="x", labelrotation=20)
    axes.set_title(f"{dataset.name}: frames by time")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


def plot_measures(dataset: Dataset) -> Figure:
    """Return histograms of luma (mean grey value, 0 to 255) and sharpness (variance of the Laplacian), by
    camera."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows = dataset.to_pandas()
    if not len(rows):
        return _without_frames(figure, left)
    lowest, highest = max(0.1, float(rows["sharpness"].min())), max(1.0, float(rows["sharpness"].max()))
    for colour, (name, part) in zip(_COLOURS * 100, rows.groupby("camera_name"), strict=False):
        style = {"histtype": "step", "color": colour, "label": str(name)}
        left.hist(part["luma"], bins=np.linspace(0, 255, 52), **style)
        right.hist(part["sharpness"].clip(lower=lowest), bins=np.geomspace(lowest, 1.01 * highest, 52), **style)
    right.set_xscale("log")
    left.set_xlabel("luma (0 to 255)")
    right.set_xlabel("sharpness (variance of the Laplacian)")
    left.set_ylabel("frames")
    if rows["camera_name"].nunique() <= 12:
        right.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.suptitle(f"{dataset.name}: brightness and sharpness")
    return figure


def plot_images(dataset: Dataset, count: int = 12, scale: Scale = 4) -> Figure:
    """Return a grid of up to ``count`` evenly spaced frames, with their boxes. ``scale`` (1, 2, 4, 8) divides their
    size.

    Raises UsageError unless ``count`` is 1 to 100, and DatasetError if an image cannot be read.
    """
    if not 1 <= count <= _MAX_IMAGES:
        raise UsageError(f"count: expected 1 to {_MAX_IMAGES} images, got {count}")
    frames = [dataset[i * len(dataset) // count] for i in range(min(count, len(dataset)))] if len(dataset) else []
    columns = min(4, max(1, len(frames)))
    rows = max(1, -(-len(frames) // columns))
    figure = Figure(figsize=(3 * columns, 2.3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for place in axes:
        place.set_axis_off()
    if not frames:
        return _without_frames(figure, axes[0])
    for place, frame in zip(axes, frames, strict=False):
        _image(place, frame, scale)
    return figure


def _image(axes: Axes, frame: Frame, scale: Scale) -> None:
    image = frame.decode(scale)
    axes.imshow(image)
    axes.set_title(f"{frame.camera_name} · {frame.view}\n{frame.local_time:%Y-%m-%d %H:%M:%S}", size=8)
    across, down = image.shape[1] / frame.width_px, image.shape[0] / frame.height_px
    for annotation in frame.annotations:
        if annotation.kind == "box":
            x, y, width, height = annotation.box
            corner = x * across - 0.5, y * down - 0.5
            axes.add_patch(Rectangle(corner, width * across, height * down, fill=False, color="#E69F00"))
            axes.text(*corner, annotation.label, size=7, color="black", backgroundcolor="#E69F00", va="bottom")


def _local_hours(rows: pd.DataFrame) -> pd.Series[int]:
    hours = pd.Series(0, index=rows.index)
    for zone, part in rows.groupby("timezone"):
        hours[part.index] = part["timestamp"].dt.tz_convert(str(zone)).dt.hour
    return hours


def _figure(dataset: Dataset, rows: int, *, needs_frames: bool = True) -> tuple[Figure, Axes]:
    """Return a figure with a height for ``rows`` cameras, and its axes."""
    figure = Figure(figsize=(9, 1.8 + 0.28 * max(2, rows)), layout="constrained")
    axes = figure.subplots()
    if needs_frames and not len(dataset):
        _without_frames(figure, axes)
    return figure, axes


def _without_frames(figure: Figure, axes: Axes) -> Figure:
    axes.text(0.5, 0.5, "no frames", ha="center", va="center", transform=axes.transAxes)
    axes.set_axis_off()
    return figure
