"""Images made by an enemy: bounded time and memory, whatever their headers and scans say."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest

from rhombus_dataset.building.fetch import PixelBudget
from rhombus_dataset.imaging import jpeg, limits
from tests.conftest import ROOT


def progressive(width_px: int, height_px: int, repeats: int) -> bytes:
    """A progressive JPEG whose last scan, a refinement, is there ``repeats`` times more."""
    rgb = np.random.default_rng(1).integers(0, 255, (height_px // 16, width_px // 16, 3), np.uint8)
    rgb = np.asarray(cv2.resize(rgb, (width_px, height_px)), np.uint8)
    image = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_QUALITY, 30])[1].tobytes()
    scan = image[image.rfind(b"\xff\xda") : -2]
    # An empty refinement: nearly no bytes, and a pass over all pixels.
    return image[:-2] + (scan[:14] + b"\0") * repeats + b"\xff\xd9"


@pytest.mark.parametrize(
    "call", [jpeg.measure, jpeg.decode_rgb, jpeg.small_grey, lambda image: jpeg.thumbnail(image, 64)]
)
def test_thousands_of_scans_are_refused_before_decoding(call: object) -> None:
    image = progressive(4000, 3000, 8000)
    began = time.process_time()
    with pytest.raises(jpeg.DamagedImage, match="would take too long to decode"):
        call(image)  # type: ignore[operator]
    assert time.process_time() - began < 0.5


def test_ordinary_progressive_images_are_decoded() -> None:
    image = progressive(1920, 1080, 0)
    assert jpeg.decode_rgb(image).shape == (1080, 1920, 3)
    assert jpeg.measure(image).width_px == 1920


def test_the_worst_that_is_accepted_is_bounded() -> None:
    """As many scans and pixels as the limits allow: such an image takes seconds, not minutes."""
    width_px, height_px = 2000, 2000
    repeats = limits.MAX_SCANNED_PIXELS // (width_px * height_px) - 12
    image = progressive(width_px, height_px, repeats)
    assert image.count(b"\xff\xda") <= limits.MAX_SCANS
    began = time.process_time()
    with contextlib.suppress(jpeg.DamagedImage):
        jpeg.measure(image)
    assert time.process_time() - began < 20


def test_the_check_costs_microseconds() -> None:
    rgb = np.random.default_rng(2).integers(0, 255, (1080, 1920, 3), np.uint8)
    image = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, 60])[1].tobytes()
    began = time.process_time()
    for _ in range(100):
        jpeg.size_px(image)
    checked_s = time.process_time() - began
    began = time.process_time()
    for _ in range(3):
        jpeg.measure(image)
    measured_s = (time.process_time() - began) / 3
    assert checked_s / 100 < 0.2 * measured_s


def test_the_pixels_in_flight_are_bounded() -> None:
    budget = PixelBudget(100)
    lock, used, most = threading.Lock(), 0, 0

    def decode(pixels: int) -> None:
        nonlocal used, most
        for _ in range(50):
            with budget.reserved(pixels):
                with lock:
                    used += pixels
                    if pixels <= 100:
                        most = max(most, used)
                    else:
                        assert used == pixels, "larger than the budget: alone"
                time.sleep(0.0005)
                with lock:
                    used -= pixels

    threads = [threading.Thread(target=decode, args=(pixels,)) for pixels in (10, 20, 30, 40, 60, 90, 500)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 30 < most <= 100


def test_sixteen_threads_with_huge_images_stay_within_their_memory() -> None:
    """16 decodes of 40 megapixels at once took 16 times the memory of one."""
    program = f"""
import resource, threading, math
import numpy as np, simplejpeg
from rhombus_dataset.building.fetch import PixelBudget
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.imaging import jpeg, limits
image = simplejpeg.encode_jpeg(np.zeros((5000, 8000, 3), np.uint8), 50)
budget = PixelBudget({100_000_000})
def work():
    with budget.reserved(math.prod(jpeg.size_px(image))):
        jpeg.paint_masks(image, [((0, 0), (5000, 0), (5000, 5000))], Geometry())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
threads = [threading.Thread(target=work) for _ in range(16)]
[t.start() for t in threads]; [t.join() for t in threads]
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1200, "MB: two of them at a time, with their arrays"
