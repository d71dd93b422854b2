"""Makes hostile JPEGs. Run as a program, decodes some with limited memory, and prints each outcome as JSON."""

from __future__ import annotations

import json
import resource
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
SPARE_BYTES: Final = 500_000_000
"""Memory for the decoder, above that of the process before."""
CPU_S: Final = 30
"""CPU time after which the process is killed."""
WHOLE_FRAME: Final = ((0, 0), (10000, 0), (10000, 10000), (0, 10000))


def encoded(width_px: int, height_px: int, quality: int = 90, noise: int = 60, **options: int) -> bytes:
    """Return a JPEG of noise. ``options``: names of OpenCV's options, such as PROGRESSIVE, with their values."""
    rng = np.random.default_rng(0)
    return _encode(rng.integers(100, 101 + noise, (height_px, width_px, 3), np.uint8), quality, options)


def flat(width_px: int, height_px: int, **options: int) -> bytes:
    """Return a grey JPEG of one colour: large and quickly made."""
    return _encode(np.full((height_px, width_px), 100, np.uint8), 50, options)


def _encode(image: npt.NDArray[np.uint8], quality: int, options: dict[str, int]) -> bytes:
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    for name, value in options.items():
        flags += [getattr(cv2, f"IMWRITE_JPEG_{name}"), value]
    return cv2.imencode(".jpg", image, flags)[1].tobytes()


def segments(jpeg: bytes) -> list[tuple[int, bytes]]:
    """Return the segments between SOI and EOI: their markers' second byte, and all bytes with the scan's data."""
    found = []
    at = 2
    while jpeg[at : at + 2] != EOI:
        marker, end = jpeg[at + 1], at + 2 + int.from_bytes(jpeg[at + 2 : at + 4])
        while marker == 0xDA and (jpeg[end] != 0xFF or jpeg[end + 1] in (0, *range(0xD0, 0xD8))):
            end += 1
        found.append((marker, jpeg[at:end]))
        at = end
    return found


def joined(parts: list[bytes]) -> bytes:
    """Return the JPEG with these segments."""
    return SOI + b"".join(parts) + EOI


def repeated_scan(jpeg: bytes, count: int, scan: int = -1, data: bytes | None = None) -> bytes:
    """Return a JPEG with ``count`` more copies of one of its scans, with its own data or other."""
    parts = segments(jpeg)
    at = [i for i, (marker, _) in enumerate(parts) if marker == 0xDA][scan]
    copy = parts[at][1]
    if data is not None:
        copy = copy[: 2 + int.from_bytes(copy[2:4])] + data
    return joined([part for _, part in parts[: at + 1]] + [copy] * count + [part for _, part in parts[at + 1 :]])


def without(jpeg: bytes, marker: int) -> bytes:
    """Return a JPEG without its segments of one kind."""
    return joined([part for found, part in segments(jpeg) if found != marker])


def patched(jpeg: bytes, offset: int, value: bytes) -> bytes:
    """Return a JPEG with ``value`` at ``offset`` from the marker of its frame header."""
    at = next(jpeg.index(marker) for marker in (b"\xff\xc0", b"\xff\xc2") if marker in jpeg) + offset
    return jpeg[:at] + value + jpeg[at + len(value) :]


def sized(jpeg: bytes, width_px: int, height_px: int) -> bytes:
    """Return a JPEG whose header claims another size."""
    return patched(jpeg, 5, struct.pack(">HH", height_px, width_px))


def inserted(jpeg: bytes, data: bytes, before_end: bool = False) -> bytes:
    """Return a JPEG with ``data`` after its start, or before its end."""
    return jpeg[:-2] + data + jpeg[-2:] if before_end else jpeg[:2] + data + jpeg[2:]


def main() -> None:
    """Decode files in each way. Prints the name of the file, the way, the outcome and the CPU seconds."""
    from rhombus_dataset.geometry import Geometry
    from rhombus_dataset.imaging import jpeg as imaging

    calls: dict[str, Callable[[bytes], Any]] = {
        "measure": imaging.measure,
        "decode_rgb": imaging.decode_rgb,
        "decode_rgb at 1/8": lambda image: imaging.decode_rgb(image, 8),
        "small_grey": imaging.small_grey,
        "thumbnail": lambda image: imaging.thumbnail(image, 320),
        "paint_masks": lambda image: imaging.paint_masks(image, [WHOLE_FRAME], Geometry()),
    }
    imaging.paint_masks(encoded(64, 64), [WHOLE_FRAME], Geometry())
    used_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    ways = json.loads(sys.argv[1]) or list(calls)
    for path in map(Path, sys.argv[2:]):
        image = path.read_bytes()
        limit_bytes = used_bytes + len(image) + SPARE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, resource.RLIM_INFINITY))
        for way in ways:
            start_s = time.process_time()
            resource.setrlimit(resource.RLIMIT_CPU, (int(start_s) + CPU_S, resource.RLIM_INFINITY))
            try:
                calls[way](image)
                outcome = "decoded"
            except imaging.DamagedImage as error:
                outcome = str(error)
            except Exception as error:
                outcome = f"raised {error!r}"
            print(json.dumps([path.stem, way, outcome, time.process_time() - start_s]), flush=True)


if __name__ == "__main__":
    main()
