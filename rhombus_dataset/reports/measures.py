"""The measures of the images: brightness, sharpness and sizes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rhombus_dataset.quality.text import counted
from rhombus_dataset.reports.frames import Frames, Ints, Names
from rhombus_dataset.reports.text import figure_text

_BINS: Final = 32
"""Bars of a histogram: each is 8 grey levels wide, or 10 px on the page."""
_MAX_SIZES: Final = 12
"""Rows of the table of sizes. A dataset has one size for each camera model and view, so 12 usually cover all."""


def measures_section(frames: Frames, ok: Ints, names: Names) -> dict[str, Any]:
    """Return histograms, quantiles by camera, and the most frequent sizes. ``ok``: the rows with an image."""
    luma, sharpness = frames.luma[ok], frames.sharpness[ok]
    # The axis is logarithmic. It spans at least two octaves; 0, the sharpness of a flat image, is not on it.
    low, high = (max(0.1, float(v)) for v in (sharpness.min(initial=1e6), sharpness.max(initial=0)))
    middle = float(np.sqrt(low * high)) if len(ok) else 100.0
    edges = np.geomspace(min(low / 1.1, middle / 2), max(high * 1.1, middle * 2), _BINS + 1)
    sizes, counts = np.unique(np.stack([frames.width[ok], frames.height[ok]], axis=1), axis=0, return_counts=True)
    largest = np.argsort(-counts, kind="stable")[:_MAX_SIZES].tolist()
    rows = []
    for c, name in enumerate(names.cameras):
        of_camera = frames.camera[ok] == c
        if of_camera.any():
            rows.append(
                (
                    name,
                    int(of_camera.sum()),
                    [np.quantile(v[of_camera], [0.05, 0.5, 0.95]).tolist() for v in (luma, sharpness)],
                )
            )
    return {
        "count": len(ok),
        "luma": _histogram(luma, np.linspace(0, 256, _BINS + 1), ["0 (black)", "128", "255 (white)"]),
        "sharpness": _histogram(
            np.clip(sharpness, edges[0], edges[-1]), edges, [figure_text(v) for v in (edges[0], middle, edges[-1])]
        ),
        "sizes": [(*sizes[i].tolist(), int(counts[i]), 100 * int(counts[i]) / len(ok)) for i in largest],
        "more_sizes": len(sizes) - len(largest),
        "rows": rows,
    }


def _histogram(values: npt.NDArray[np.float64], edges: npt.NDArray[np.float64], ticks: list[str]) -> dict[str, Any]:
    counts, _ = np.histogram(values, edges)
    most = max(1, int(counts.max(initial=0)))
    low, median, high = np.quantile(values, [0.05, 0.5, 0.95]).tolist() if len(values) else (0.0, 0.0, 0.0)
    return {
        "bars": [
            (i, 100 * n / most, f"{figure_text(edges[i])} to {figure_text(edges[i + 1])}: {counted(n, 'image')}")
            for i, n in enumerate(counts.tolist())
            if n
        ],
        "bins": len(counts),
        "ticks": ticks,
        "most": most,
        "summary": f"median {figure_text(median)}, 90 % between {figure_text(low)} and {figure_text(high)}",
    }
