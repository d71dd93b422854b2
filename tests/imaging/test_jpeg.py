"""Damage is detected, measures match their definitions, masks cover everything they touch."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rhombus_dataset.geometry import Geometry
from rhombus_dataset.imaging import jpeg
from tests.scripted_server import jpeg as jpeg_of


@pytest.fixture(scope="module")
def image() -> bytes:
    return jpeg_of(3, 640, 360)


def test_decode_rgb_gives_rgb(image: bytes) -> None:
    red = np.zeros((32, 48, 3), np.uint8)
    red[:, :, 0] = 255
    rgb = jpeg.decode_rgb(simplejpeg.encode_jpeg(red, 95))
    assert rgb.shape == (32, 48, 3)
    assert rgb.dtype == np.uint8
    assert (rgb[:, :, 0] > 240).all()
    assert (rgb[:, :, 2] < 15).all()


def test_a_truncated_image_is_found_wherever_it_ends(image: bytes) -> None:
    for length in [0, 1, 2, 20, 300, len(image) // 2, len(image) - 3]:
        with pytest.raises(jpeg.DamagedImage):
            jpeg.measure(image[:length])


@pytest.mark.parametrize("kind", ["zeroed", "dropped", "duplicated"])
def test_damage_in_the_middle_is_found(kind: str) -> None:
    """Kinds of damage for which ``cv2.imdecode`` returns an image."""
    whole = jpeg_of(5, 1280, 720)
    middle = len(whole) // 2
    part = whole[middle : middle + 2000]
    damaged = {
        "zeroed": whole[:middle] + bytes(2000) + whole[middle + 2000 :],
        "dropped": whole[:middle] + whole[middle + 2000 :],
        "duplicated": whole[:middle] + part + whole[middle:],
    }[kind]
    with pytest.raises(jpeg.DamagedImage):
        jpeg.measure(damaged)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"<html>", b"\xff\xd8", b"\xff\xd8\xff\xd9", bytes(1000)])
def test_what_is_no_jpeg_is_refused(data: bytes) -> None:
    with pytest.raises(jpeg.DamagedImage):
        jpeg.measure(data)
    with pytest.raises(jpeg.DamagedImage):
        jpeg.decode_rgb(data)


def test_a_header_that_claims_a_giant_image_is_refused_before_it_is_decoded(image: bytes) -> None:
    frame_header = image.index(b"\xff\xc0")
    giant = bytearray(image)
    giant[frame_header + 5 : frame_header + 9] = (20_000).to_bytes(2, "big") * 2
    with pytest.raises(jpeg.DamagedImage, match="claims 20000 x 20000"):
        jpeg.measure(bytes(giant))


@given(st.integers(0, 2**32), st.integers(0, 2**32))
@settings(max_examples=200)
def test_no_damage_raises_anything_else(at: int, value: int) -> None:
    data = bytearray(jpeg_of(1, 64, 48))
    data[at % len(data)] = value % 256
    with contextlib.suppress(jpeg.DamagedImage):
        jpeg.measure(bytes(data))


@pytest.mark.parametrize(
    ("width", "height", "measured"),
    [(1920, 1080, (270, 480)), (640, 360, (360, 640)), (200, 300, (300, 200)), (2048, 2050, (257, 256)),
     (513, 512, (256, 257)), (510, 600, (600, 510)), (511, 600, (300, 256))],
)  # fmt: skip
def test_measures_by_their_definition(width: int, height: int, measured: tuple[int, int]) -> None:
    data = jpeg_of(7, width, height)
    grey = simplejpeg.decode_jpeg(data, "GRAY", min_height=measured[0], min_width=measured[1])[:, :, 0]
    assert grey.shape == measured
    m = jpeg.measure(data)
    assert (m.width_px, m.height_px) == (width, height)
    assert m.luma == int(grey.astype(np.int64).sum()) / grey.size
    laplacian = cv2.Laplacian(grey, cv2.CV_64F)
    assert m.sharpness == pytest.approx(laplacian.var(), rel=1e-12)
    assert m.dhash == slow_difference_hash(grey)


def slow_difference_hash(grey: npt.NDArray[np.uint8]) -> str:
    height, width = grey.shape
    bits = ""
    for j in range(8):
        band = grey[j * height // 8 : (j + 1) * height // 8].astype(float)
        means = [band[:, i * width // 9 : (i + 1) * width // 9].mean() for i in range(9)]
        bits += "".join("1" if means[i] < means[i + 1] else "0" for i in range(8))
    return f"{int(bits, 2):016x}"


def test_the_sum_of_squares_is_exact() -> None:
    """Promise 1: measures use exact integer sums."""
    rng = np.random.default_rng(0)
    for shape in [(270, 480), (360, 640), (257, 4000), (8, 9)]:
        grey = rng.integers(0, 256, shape, np.uint8)
        laplacian = cv2.Laplacian(grey, cv2.CV_16S).astype(np.int64)
        n, s, ss = laplacian.size, int(laplacian.sum()), int((laplacian**2).sum())
        assert jpeg._laplacian_variance(grey) == (ss * n - s * s) / (n * n)


def test_masks_cover_what_they_touch_and_a_pixel_more() -> None:
    half = ((0, 0), (5000, 0), (5000, 10000), (0, 10000))
    covered = jpeg.mask_pixels([half], Geometry(), 100, 40)
    assert covered[:, :51].all()
    assert not covered[:, 52:].any()


POLYGONS = st.lists(st.tuples(st.integers(0, 10000), st.integers(0, 10000)), min_size=3, max_size=6)
GEOMETRIES = st.sampled_from(
    [
        Geometry(),
        Geometry(crop_x=2500, crop_y=1000, crop_width=5000, crop_height=6000),
        Geometry(downscale=3, crop_x=9990, crop_y=0, crop_width=10, crop_height=10000),
    ]
)


@given(POLYGONS, GEOMETRIES, st.integers(8, 90), st.integers(8, 90))
@example([(0, 0), (0, 0), (6999, 9998)], Geometry(), 63, 8)
@example([(10000, 10000)] * 3, Geometry(), 63, 8)
def test_no_pixel_that_a_mask_touches_shows(
    polygon: list[tuple[int, int]], geometry: Geometry, width: int, height: int
) -> None:
    """Promise 4: masks are rounded outward. Tested on points of the outline and of triangles of its corners."""
    painted = jpeg.mask_pixels([tuple(polygon)], geometry, width, height)
    corners = [geometry.from_full(x, y, width, height) for x, y in polygon]
    closed = [*corners, corners[0]]
    steps = np.linspace(0, 1, 997)[:, None]
    points = [np.asarray(a) * (1 - steps) + np.asarray(b) * steps for a, b in pairwise(closed)]
    if len(corners) == 3:
        weights = np.random.default_rng(0).dirichlet((1, 1, 1), 2000)
        points.append(weights @ np.asarray(corners))
    every = np.concatenate(points)
    shown = every[((every >= 0) & (every <= (width, height))).all(axis=1)]
    pixels = np.minimum(np.floor(shown), (width - 1, height - 1)).astype(int)
    for x, y in np.unique(pixels, axis=0):
        # The pixel, and one more around it.
        window = painted[max(y - 1, 0) : max(y + 2, 0), max(x - 1, 0) : max(x + 2, 0)]
        assert window.all(), (x, y)


@given(POLYGONS, st.integers(8, 90), st.integers(8, 90))
def test_a_mask_covers_no_more_than_needed(polygon: list[tuple[int, int]], width: int, height: int) -> None:
    """All painted pixels are within two pixels of the filled outline that OpenCV draws."""
    painted = jpeg.mask_pixels([tuple(polygon)], Geometry(), width, height)
    corners = np.rint([[x * width * 8 / 10000, y * height * 8 / 10000] for x, y in polygon]).astype(np.int32)
    fine = np.zeros((height * 8 + 8, width * 8 + 8), np.uint8)
    cv2.fillPoly(fine, [corners], 1)
    for i in range(1, len(corners) - 1):  # areas inside the outline, too
        cv2.fillPoly(fine, [corners[[0, i, i + 1]]], 1)
    drawn = fine.reshape(height + 1, 8, width + 1, 8).max(axis=(1, 3))
    near = cv2.dilate(drawn, np.ones((5, 5), np.uint8))[:height, :width].astype(bool)
    assert not (painted & ~near).any()


def test_an_outline_that_crosses_itself_hides_all_it_winds_around() -> None:
    star = ((5000, 0), (8000, 9500), (0, 3500), (10000, 3500), (2000, 9500))
    assert jpeg.mask_pixels([star], Geometry(), 100, 100)[50, 50]


def test_a_painted_mask_is_black_and_the_rest_stays(image: bytes) -> None:
    corner = ((0, 0), (5000, 0), (5000, 5000), (0, 5000))
    masked = jpeg.paint_masks(image, [corner], Geometry())
    before, after = jpeg.decode_rgb(image), jpeg.decode_rgb(masked)
    assert after[:180, :320].max() < 40
    assert np.abs(before[200:, 340:].astype(int) - after[200:, 340:]).mean() < 3


def test_a_mask_outside_the_crop_leaves_the_bytes_unchanged(image: bytes) -> None:
    """Promise 4: bytes verbatim."""
    corner = ((0, 0), (2000, 0), (2000, 2000), (0, 2000))
    geometry = Geometry(1, 5000, 5000, 5000, 5000)
    assert jpeg.paint_masks(image, [corner], geometry) is image


def test_a_grey_image_is_masked_too() -> None:
    grey = simplejpeg.encode_jpeg(
        np.full((40, 60, 1), 200, np.uint8), 90, colorspace="GRAY", colorsubsampling="Gray"
    )
    masked = jpeg.paint_masks(grey, [((0, 0), (5000, 0), (0, 10000))], Geometry())
    assert jpeg.decode_rgb(masked)[5, 5].max() < 20
    assert jpeg.measure(masked).width_px == 60


def test_metadata_does_not_survive_a_mask(image: bytes) -> None:
    note = b"a thumbnail could stand here"
    segment = b"\xff\xe1" + (len(note) + 2).to_bytes(2, "big") + note
    tagged = image[:2] + segment + image[2:]
    assert jpeg.measure(tagged) == jpeg.measure(image)
    masked = jpeg.paint_masks(tagged, [((0, 0), (9000, 0), (0, 9000))], Geometry())
    assert note in tagged
    assert note not in masked
