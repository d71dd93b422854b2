"""The ``demo`` scene: drawn images of a loading dock, with day and night, vehicles, people and empty periods.

Every millisecond has its own image, a pure function of camera, time and UTC offset. A strip of black and white
blocks along the lower edge encodes camera and time, so that tests can identify the frame that they received.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from rhombus_dataset.geometry import PERMYRIAD, Geometry

WIDTH_PX: Final = 1280
HEIGHT_PX: Final = 720
WHOLE: Final = Geometry()
_BLOCKS: Final = 64
"""Blocks in a row of the strip. Each is 20 x 20 pixels, and encodes one bit."""
_ROWS: Final = 2
"""Rows of the strip: 128 bits for 4 bytes of camera, 8 bytes of time and a CRC-32."""
_BLOCK_PX: Final = WIDTH_PX // _BLOCKS


@dataclass(frozen=True, slots=True)
class Stamp:
    """The content of the strip: 8 hex digits for the camera (see :func:`camera_code`), and UTC milliseconds."""

    camera_code: str
    timestamp_ms: int


def camera_code(camera_uuid: str) -> str:
    """Return the 8 hex digits of a camera in a stamp. They do not depend on the UUID's facet."""
    return hashlib.sha256(camera_uuid[:22].encode()).hexdigest()[:8]


def draw(camera_uuid: str, timestamp_ms: int, offset_ms: int) -> npt.NDArray[np.uint8]:
    """Return the image of a camera at a time: uint8, (720, 1280, 3), RGB.

    ``timestamp_ms``: UTC. ``offset_ms``: offset of the local clock from UTC, which decides between day and night.
    """
    seed = int(camera_code(camera_uuid), 16)
    local_ms = timestamp_ms + offset_ms
    light = daylight(local_ms / 3_600_000 % 24)
    rgb = _background(seed, light)
    for item in _moving_objects(seed, timestamp_ms):
        _draw_object(rgb, item, light)
    _draw_clock(rgb, local_ms, seed)
    _draw_stamp(rgb, Stamp(camera_code(camera_uuid), timestamp_ms))
    return rgb


@dataclass(frozen=True, slots=True)
class SceneObject:
    """A ``vehicle`` or ``person``, and its box (top left corner, size) in permyriads of the full frame."""

    kind: str
    x: float
    y: float
    width: float
    height: float


def visible_objects(camera_uuid: str, timestamp_ms: int) -> list[SceneObject]:
    """Return the ground truth of an image: the vehicles and people in it, with the visible part of each."""
    found = []
    for item in _moving_objects(int(camera_code(camera_uuid), 16), timestamp_ms):
        half_px, above_px, below_px = (120, 110, 22) if item.kind == "vehicle" else (24, 152, 5)
        left, right = max(0.0, item.x - half_px), min(float(WIDTH_PX), item.x + half_px)
        if left < right:
            x, width = left * PERMYRIAD / WIDTH_PX, (right - left) * PERMYRIAD / WIDTH_PX
            y, height = (item.y - above_px) * PERMYRIAD / HEIGHT_PX, (above_px + below_px) * PERMYRIAD / HEIGHT_PX
            found.append(SceneObject(item.kind, x, y, width, height))
    return found


def read_stamp(rgb: npt.NDArray[np.uint8], geometry: Geometry = WHOLE) -> Stamp | None:
    """Return the stamp in an image of the scene, or None if its strip is not completely visible or not readable.

    ``rgb``: uint8, (H, W, 3), large enough that a block has at least five pixels. ``geometry``: of the image.
    """
    height, width = rgb.shape[:2]
    grey = rgb.astype(np.float64).mean(axis=2)
    block_w = width / _BLOCKS * PERMYRIAD / geometry.crop_width
    block_h = height / (HEIGHT_PX / _BLOCK_PX) * PERMYRIAD / geometry.crop_height
    bits = []
    for row in range(_ROWS):
        for column in range(_BLOCKS):
            x, y = geometry.from_full(
                (column + 0.5) * PERMYRIAD / _BLOCKS,
                PERMYRIAD * (1 - (_ROWS - row - 0.5) * _BLOCK_PX / HEIGHT_PX),
                width,
                height,
            )
            if not (0 <= x < width and 0 <= y < height):
                return None
            half = max(0.5, min(block_w, block_h) / 5)
            patch = grey[
                max(0, int(y - half)) : max(1, math.ceil(y + half)),
                max(0, int(x - half)) : max(1, math.ceil(x + half)),
            ]
            bits.append(bool(patch.mean() > 128))
    value = np.packbits(np.array(bits)).tobytes()
    payload, check = value[:12], int.from_bytes(value[12:16], "big")
    if zlib.crc32(payload) != check:
        return None
    return Stamp(payload[:4].hex(), int.from_bytes(payload[4:], "big"))


def _draw_stamp(rgb: npt.NDArray[np.uint8], stamp: Stamp) -> None:
    payload = bytes.fromhex(stamp.camera_code) + stamp.timestamp_ms.to_bytes(8, "big")
    value = payload + zlib.crc32(payload).to_bytes(4, "big")
    bits = np.unpackbits(np.frombuffer(value, np.uint8)).reshape(_ROWS, _BLOCKS)
    blocks = np.kron(bits * np.uint8(255), np.ones((_BLOCK_PX, _BLOCK_PX), np.uint8))
    rgb[HEIGHT_PX - _ROWS * _BLOCK_PX :] = blocks[:, :, None]


def daylight(hour: float) -> float:
    """Return the light at an hour of the day (0 to 24): 0 at night, 1 at noon, with dawn at 6 and dusk at 20."""
    return float(1 / (1 + math.exp(-(hour - 6) * 3)) * 1 / (1 + math.exp((hour - 20) * 3)))


def _background(seed: int, light: float) -> npt.NDArray[np.uint8]:
    """Return the image without vehicles and people: a wall with dock doors and a yard, by daylight or two lamps."""
    rng = np.random.default_rng(seed)
    sky_day, sky_night = np.array([150, 190, 225.0]), np.array([12, 14, 30.0])
    rgb = np.empty((HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    rgb[:160] = sky_night + (sky_day - sky_night) * light
    wall = rng.integers(120, 190, 3) * (0.25 + 0.75 * light)
    rgb[160:420] = wall
    yard = np.array([105, 103, 98.0]) * (0.25 + 0.75 * light)
    rgb[420:] = yard
    for i in range(4):
        left = 70 + i * 300
        shade = tuple(float(c) for c in rng.integers(60, 230, 3) * (0.3 + 0.7 * light))
        cv2.rectangle(rgb, (left, 220), (left + 200, 420), shade, -1)
        for y in range(240, 420, 28):
            cv2.line(rgb, (left, y), (left + 200, y), tuple(c * 0.8 for c in shade), 2)
        cv2.line(rgb, (left - 30, 700), (left + 10, 420), (200 * light + 40, 180 * light + 40, 40), 4)
    if light < 0.6:
        for x in (330, 930):
            glow = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
            cv2.ellipse(glow, (x, 420), (230, 150), 0, 0, 360, int(90 * (0.6 - light) / 0.6), -1)
            rgb[:] = np.minimum(rgb.astype(np.uint16) + glow[:, :, None], 255)
            cv2.circle(rgb, (x, 190), 9, (255, 245, 200), -1)
    return rgb


@dataclass(frozen=True, slots=True)
class _MovingObject:
    kind: str
    x: float
    y: float
    colour: tuple[float, float, float]


def _moving_objects(seed: int, timestamp_ms: int) -> list[_MovingObject]:
    """Return the objects at a time. At most one starts every 20 s, and none in 45 % of the 5-minute periods."""
    found = []
    for slot in (timestamp_ms // 20_000 - 1, timestamp_ms // 20_000):
        minute = slot // 3
        if _hash(seed, "quiet", minute // 5) % 100 < 45:
            continue
        h = _hash(seed, "thing", slot)
        length_ms = 8_000 + h % 18_000
        age = (timestamp_ms - slot * 20_000) / length_ms
        if not 0 <= age < 1 or h % 5 == 0:
            continue
        vehicle = h % 3 == 0
        way = age if h & 1024 else 1 - age
        colour = ((h >> 16) % 200 + 30.0, (h >> 24) % 200 + 30.0, (h >> 32) % 200 + 30.0)
        found.append(
            _MovingObject(
                "vehicle" if vehicle else "person",
                -200 + way * (WIDTH_PX + 400),
                520 + (h >> 40) % 120,
                colour,
            )
        )
    return found


def _draw_object(rgb: npt.NDArray[np.uint8], item: _MovingObject, light: float) -> None:
    x, y = round(item.x), round(item.y)
    colour = tuple(c * (0.35 + 0.65 * light) for c in item.colour)
    dark = tuple(c * 0.4 for c in colour)
    if item.kind == "vehicle":
        cv2.rectangle(rgb, (x - 120, y - 110), (x + 60, y), colour, -1)
        cv2.rectangle(rgb, (x + 60, y - 70), (x + 120, y), dark, -1)
        for wheel in (-80, 80):
            cv2.circle(rgb, (x + wheel, y), 22, (15, 15, 15), -1, cv2.LINE_AA)
        if light < 0.5:
            cv2.circle(rgb, (x + 118, y - 25), 12, (255, 250, 210), -1, cv2.LINE_AA)
    else:
        step = round(14 * math.sin(item.x / 12))
        cv2.line(rgb, (x, y - 50), (x - step, y), dark, 9, cv2.LINE_AA)
        cv2.line(rgb, (x, y - 50), (x + step, y), dark, 9, cv2.LINE_AA)
        cv2.ellipse(rgb, (x, y - 85), (17, 42), 0, 0, 360, colour, -1, cv2.LINE_AA)
        cv2.circle(rgb, (x, y - 138), 14, (205 * (0.35 + 0.65 * light),) * 3, -1, cv2.LINE_AA)


def _draw_clock(rgb: npt.NDArray[np.uint8], local_ms: int, seed: int) -> None:
    seconds, ms = divmod(local_ms % 86_400_000, 1000)
    text = f"CAM {seed % 97:02d}  {seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{ms:03d}"
    cv2.putText(rgb, text, (24, 44), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (0, 0, 0), 5, cv2.LINE_AA)
    cv2.putText(rgb, text, (24, 44), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (255, 255, 255), 2, cv2.LINE_AA)


def _hash(seed: int, purpose: str, number: int) -> int:
    text = f"{seed} {purpose} {number}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
