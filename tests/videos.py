"""Generated small videos. Each frame differs from its neighbours and encodes its number."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt


def image(number: int, width_px: int = 320, height_px: int = 240) -> npt.NDArray[np.uint8]:
    """Return frame ``number``: uint8, (H, W, 3), RGB."""
    rgb = np.full((height_px, width_px, 3), 40, np.uint8)
    rgb[:, :, 1] = np.linspace(30, 120, width_px).astype(np.uint8)
    left, top = number * 29 % (width_px - 60), number * 17 % (height_px - 60)
    cv2.rectangle(rgb, (left, top), (left + 60, top + 60), (230, 80, 40), -1)
    cv2.putText(rgb, str(number), (width_px // 3, height_px // 2), 0, 2.0, (255, 255, 255), 3)
    return rgb


def write_video(
    path: Path,
    times: list[Fraction],
    *,
    gop: int = 12,
    b_frames: int = 0,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
) -> None:
    """Write a video whose frames are displayed at ``times`` (seconds, ascending).

    Codecs other than H.264 count time in frames, so ``times`` must be steady there.
    """
    rate = 30 if codec == "libx264" else round(1 / (times[1] - times[0]))
    time_base = Fraction(1, 90_000 if codec == "libx264" else rate)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = time_base
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = b_frames
        stream.options = ({"crf": "18"} if codec == "libx264" else {}) | (options or {})
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(image(number), format="rgb24")
            frame.pts = round(time / time_base)
            frame.time_base = time_base
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
