"""The plots show the values of the manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import rhombus_dataset
from rhombus_dataset import plots
from rhombus_dataset.dataset import Dataset
from rhombus_dataset.errors import UsageError
from tests.conftest import CONFIGS
from tests.labelled import label

ALL = [plots.plot_coverage, plots.plot_outcomes, plots.plot_timeline, plots.plot_measures, plots.plot_images]
PLAN = """
version: 1
name: autumn
seed: 1
source: {type: recordings, site: site.yaml}
cameras:
  - {uuid: DEMO-dock-north-AAAAAA, name: dock-north, timezone: America/Los_Angeles}
  - {uuid: DEMO-lobby-AAAAAAAAAAA, name: lobby, timezone: Europe/Berlin}
views:
  full: {downscale: 8}
windows:
  - {start: 2026-10-31, end: 2026-11-03}
sampling: {strategy: interval, every: 20m}
splits: {by: time, block: 1h, fractions: {train: 0.7, test: 0.3}}
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A dataset over the end of daylight saving time. The last day of one camera is missing."""
    folder = tmp_path_factory.mktemp("plots")
    text = (CONFIGS / "demo-site.yaml").read_text().split("\ncameras:")[0] + "\ncameras:\n"
    for uuid, name, hours in (
        ("DEMO-dock-north-AAAAAA", "dock-north", 96),
        ("DEMO-lobby-AAAAAAAAAAA", "lobby", 48),
    ):
        recording = f"{{scene: demo, start: 2026-10-31, duration: {hours}h}}"
        text += f"  - {{uuid: {uuid}, name: {name}, location: Oakland, recordings: [{recording}]}}\n"
    (folder / "site.yaml").write_text(text)
    (folder / "plan.yaml").write_text(PLAN)
    rhombus_dataset.build(folder / "plan.yaml", folder / "out")
    label(folder / "out")
    return rhombus_dataset.open_dataset(folder / "out")


def test_coverage_counts_by_the_cameras_own_clock(dataset: Dataset) -> None:
    figure = plots.plot_coverage(dataset)
    axes: Any = figure.axes[0]
    drawn = axes.images[0].get_array().filled(0)
    cameras = [text.get_text() for text in axes.get_yticklabels()]
    expected: dict[tuple[str, int], int] = {}
    for frame in dataset:
        key = frame.camera_name, frame.local_time.hour
        expected[key] = expected.get(key, 0) + 1
    assert {(cameras[y], x): int(n) for (y, x), n in np.ndenumerate(drawn) if n} == expected
    # The hour that occurs twice at the end of daylight saving time.
    assert expected["dock-north", 1] == 12
    assert sorted(int(text.get_text()) for text in axes.texts) == sorted(expected.values())


def test_outcomes_add_up_to_what_was_planned(dataset: Dataset) -> None:
    axes: Any = plots.plot_outcomes(dataset).axes[0]
    rows = dataset.manifest.to_pandas()
    assert set(rows["status"]) == {"ok", "missing"}
    bars = {str(c.get_label()): [p.get_width() for p in c.patches] for c in axes.containers}
    counts = pd.crosstab(rows["camera_name"], rows["status"])
    assert bars == {status: counts[status].tolist() for status in counts}


def test_the_timeline_has_every_planned_frame_once(dataset: Dataset) -> None:
    lines = plots.plot_timeline(dataset).axes[0].lines
    points = {str(line.get_label()): len(np.asarray(line.get_xdata())) for line in lines}
    lost = points.pop("no image")
    assert points == dataset.to_pandas()["split"].value_counts().to_dict()
    assert lost == dataset.manifest.num_rows - len(dataset) > 0


def test_measures_have_every_frame_once(dataset: Dataset) -> None:
    axes: Any
    for axes in plots.plot_measures(dataset).axes[:2]:
        # The outlines of the histograms: every second corner is the start of a bin.
        assert sum(patch.get_xy()[1:-1:2, 1].sum() for patch in axes.patches) == len(dataset)


def test_images_carry_their_boxes(dataset: Dataset) -> None:
    figure = plots.plot_images(dataset[:6], count=6, scale=1)
    boxes = [annotation for frame in dataset[:6] for annotation in frame.annotations if annotation.kind == "box"]
    drawn: list[Any] = [patch for axes in figure.axes for patch in axes.patches]
    assert len(drawn) == len(boxes) > 0
    assert [patch.get_width() for patch in drawn] == [box.width for box in boxes]
    with pytest.raises(UsageError, match="1 to 100"):
        plots.plot_images(dataset, count=0)


@pytest.mark.parametrize("plot", ALL)
def test_a_dataset_without_frames_is_drawn_too(dataset: Dataset, plot: Any, tmp_path: Path) -> None:
    for part in (dataset, dataset[:1], dataset[:0]):
        figure = plot(part)
        assert isinstance(figure, Figure)
        figure.savefig(tmp_path / "figure.png")
    if plot not in (plots.plot_outcomes, plots.plot_timeline):
        assert any(text.get_text() == "no frames" for axes in figure.axes for text in axes.texts)
