"""The conversion to a crop and back is the identity; impossible crops are refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rhombus_dataset.geometry import PERMYRIAD, Geometry


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    x = draw(st.integers(0, PERMYRIAD - 1))
    y = draw(st.integers(0, PERMYRIAD - 1))
    return Geometry(
        draw(st.integers(1, 16)),
        x,
        y,
        draw(st.integers(1, PERMYRIAD - x)),
        draw(st.integers(1, PERMYRIAD - y)),
    )


pixels = st.floats(0, 4000, allow_nan=False)
sizes = st.integers(1, 4000)


@given(geometries(), pixels, pixels, sizes, sizes)
def test_crop_and_back_is_the_identity(g: Geometry, x: float, y: float, width: int, height: int) -> None:
    back = g.from_full(*g.to_full(x, y, width, height), width, height)
    assert back == pytest.approx((x, y), rel=1e-6, abs=1e-6 * max(width, height))


@given(geometries(), sizes, sizes)
def test_corners_of_the_image_are_corners_of_the_crop(g: Geometry, width: int, height: int) -> None:
    assert g.to_full(0, 0, width, height) == (g.crop_x, g.crop_y)
    assert g.to_full(width, height, width, height) == pytest.approx(
        (g.crop_x + g.crop_width, g.crop_y + g.crop_height)
    )


@given(geometries(), st.integers(16, 8000), st.integers(16, 8000), st.booleans(), st.booleans())
@example(Geometry(5, 0, 0, 1, 8844), 16, 494, False, False)
@settings(max_examples=1000)
def test_the_full_size_is_among_those_that_an_image_implies(
    g: Geometry, width: int, height: int, up: bool, crop_first: bool
) -> None:
    """For any rounding of the server, and any order of crop and downscale."""

    def shrink(length: int, permyriads: int) -> int:
        steps = [(permyriads, PERMYRIAD), (1, g.downscale)]
        for numerator, denominator in steps if crop_first else reversed(steps):
            product = length * numerator
            length = max(1, -(-product // denominator) if up else product // denominator)
        return length

    wide, high = g.full_size_range(shrink(width, g.crop_width), shrink(height, g.crop_height))
    assert width in wide
    assert height in high


@pytest.mark.parametrize(
    "values",
    [(1, 5000, 0, 5001, 10000), (1, 0, 0, 0, 1), (1, -1, 0, 5, 5), (1, 0, 9999, 10000, 2), (0,)],
)
def test_impossible_geometry_is_refused(values: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"crop leaves the frame|downscale must be"):
        Geometry(*values)
