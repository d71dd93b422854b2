"""A server of prebuilt answers, far cheaper than any client: one process, one event loop, no parsing.

Whatever frame is asked for, it sends the next of a few prepared answers of ``getExactFrameData``.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

SIZES = {"1080p": (1920, 1080, 260_000), "360p": (640, 360, 30_000)}
"""Width and height in pixels, and about how many bytes the JPEG has."""
IMAGES = 24


def image(width_px: int, height_px: int, target_bytes: int, seed: int) -> bytes:
    """A JPEG of a made-up scene with shapes and sensor noise, at 4:2:0, of about the wanted size."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 200, (9, 16, 3), np.uint8)
    rgb: npt.NDArray[np.uint8] = np.asarray(
        cv2.resize(coarse, (width_px, height_px), interpolation=cv2.INTER_CUBIC), np.uint8
    )
    for _ in range(60):
        x, y = int(rng.integers(width_px)), int(rng.integers(height_px))
        colour = tuple(int(c) for c in rng.integers(0, 255, 3))
        size = int(rng.integers(5, width_px // 8))
        cv2.rectangle(rgb, (x, y), (x + size, y + size // 2), colour, -1, cv2.LINE_AA)
        cv2.circle(rgb, (y, x % height_px), size // 3, colour, 2, cv2.LINE_AA)
    noise = rng.normal(0, 5, rgb.shape)
    rgb = np.clip(rgb + noise, 0, 255).astype(np.uint8)
    low, high = 20, 98
    while low < high:
        quality = (low + high + 1) // 2
        if len(simplejpeg.encode_jpeg(rgb, quality, colorsubsampling="420")) <= target_bytes:
            low = quality
        else:
            high = quality - 1
    best: bytes = simplejpeg.encode_jpeg(rgb, low, colorsubsampling="420")
    return best


def prebuilt_answers(size: str) -> list[bytes]:
    """Whole HTTP responses, headers included."""
    width_px, height_px, target_bytes = SIZES[size]
    answers = []
    for seed in range(IMAGES):
        body = json.dumps(
            {
                "error": False,
                "errorMsg": None,
                "frameData": base64.b64encode(image(width_px, height_px, target_bytes, seed)).decode(),
                "mimeType": "image/jpeg",
                "responseMessage": None,
                "status": "AVAILABLE",
                "warningMsg": None,
            }
        ).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        answers.append(head.encode() + body)
    return answers


class Answering(asyncio.Protocol):
    """Answers each request as soon as its body is whole."""

    def __init__(self, answers: list[bytes]) -> None:
        self._answers = answers
        self._count = 0
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        at = head.lower().index(b"content-length:") + len(b"content-length:")
        length = int(head[at:].split(b"\r\n", 1)[0])
        if len(rest) >= length:
            self._received = rest[length:]
            self._transport.write(self._answers[self._count % len(self._answers)])
            self._count += 1


async def serve(size: str) -> None:
    answers = prebuilt_answers(size)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answering(answers), "127.0.0.1", 0)
    sizes = [len(answer) for answer in answers]
    print(server.sockets[0].getsockname()[1], sum(sizes) // len(sizes), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("size", choices=sorted(SIZES))
    asyncio.run(serve(parser.parse_args().size))
