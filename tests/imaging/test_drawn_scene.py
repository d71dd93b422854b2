"""The drawn scene: day and night, moving objects, empty periods, and a stamp that can be read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rhombus_dataset.geometry import Geometry
from rhombus_dataset.imaging.crop import render
from rhombus_dataset.imaging.drawn_scene import (
    HEIGHT_PX,
    WIDTH_PX,
    Stamp,
    camera_code,
    draw,
    read_stamp,
    visible_objects,
)
from rhombus_dataset.imaging.jpeg import decode_rgb

pytestmark = pytest.mark.slow

CAMERA = "DEMO-dock-north-AAAAAA.v0"
NOON_MS = 1_780_315_200_000  # 2026-06-01T12:00Z
HOUR_MS = 3_600_000


@given(
    st.text("ABCabc019_-", min_size=22, max_size=22),
    st.integers(0, 2**42),
    st.sampled_from(
        [Geometry(), Geometry(2), Geometry(4), Geometry(1, 0, 4500, 10000, 5500), Geometry(2, 0, 9000, 10000, 1000)]
    ),
    st.integers(60, 95),
)
@settings(max_examples=40)
def test_the_stamp_survives_jpeg_and_downscaling(
    camera: str, timestamp_ms: int, geometry: Geometry, quality: int
) -> None:
    image = decode_rgb(render(draw(camera, timestamp_ms, 0), geometry, quality))
    assert read_stamp(image, geometry) == Stamp(camera_code(camera), timestamp_ms)


def test_an_image_without_stamp_reads_as_none() -> None:
    rgb = draw(CAMERA, NOON_MS, 0)
    assert read_stamp(rgb[:600]) is None
    assert read_stamp(rgb, Geometry(1, 0, 0, 5000, 10000)) is None
    assert read_stamp(np.zeros((720, 1280, 3), np.uint8)) is not read_stamp(rgb)


def test_an_image_is_a_pure_function_of_camera_and_time() -> None:
    assert np.array_equal(draw(CAMERA, NOON_MS, 0), draw(CAMERA, NOON_MS, 0))
    assert not np.array_equal(draw(CAMERA, NOON_MS, 0), draw(CAMERA, NOON_MS + 1, 0))
    assert not np.array_equal(draw(CAMERA, NOON_MS, 0), draw("B" * 22, NOON_MS, 0))


@pytest.mark.parametrize("zone_hours", [-7, 0, 2])
def test_day_is_brighter_than_night_by_the_local_clock(zone_hours: int) -> None:
    offset_ms = zone_hours * HOUR_MS
    day, night = (draw(CAMERA, NOON_MS - offset_ms + h * HOUR_MS, offset_ms) for h in (0, 12))
    assert day[:680].mean() > 2 * night[:680].mean()


def test_there_are_empty_periods_and_periods_with_movement() -> None:
    moving = []
    for minute in range(0, 360, 2):
        pair = [draw(CAMERA, NOON_MS + minute * 60_000 + ms, 0)[420:680].astype(int) for ms in (0, 700)]
        moving.append(bool(np.abs(pair[0] - pair[1]).max() > 40))
    assert 0.1 < np.mean(moving) < 0.8
    runs = "".join("x" if m else "." for m in moving)
    assert "....." in runs, "ten quiet minutes"
    assert "xx" in runs


def test_the_ground_truth_is_what_is_drawn() -> None:
    """Where the ground truth is empty, the image is the empty scene, except for its clock and its strip."""
    camera, start_ms = CAMERA, NOON_MS
    moments = [start_ms + 1_000 * i for i in range(600)]
    empty = next(t for t in moments if not visible_objects(camera, t))
    background = draw(camera, empty, 0)
    kinds = set()
    for moment in moments[::7]:
        changed: Any = (draw(camera, moment, 0).astype(int) - background).any(axis=2)
        changed[:60] = False
        changed[HEIGHT_PX - 40 :] = False
        inside = np.zeros_like(changed)
        for passer in visible_objects(camera, moment):
            kinds.add(passer.kind)
            left, right = (round(x * WIDTH_PX / 10_000) for x in (passer.x, passer.x + passer.width))
            top, bottom = (round(y * HEIGHT_PX / 10_000) for y in (passer.y, passer.y + passer.height))
            inside[max(0, top - 2) : bottom + 2, max(0, left - 2) : right + 2] = True
        # The light changes a little within ten minutes.
        assert (np.abs(draw(camera, moment, 0).astype(int) - background)[changed & ~inside] <= 3).all()
        # At the edge, a box may show only background.
        if any(passer.x > 0 and passer.x + passer.width < 10_000 for passer in visible_objects(camera, moment)):
            assert (changed & inside).any()
    assert kinds == {"vehicle", "person"}
