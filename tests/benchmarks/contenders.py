"""Three ways to build the same frames. Each is run in a process of its own by ``bench_build``.

``project``  this package, as its users call it
``script``   what most people would write
``floor``    a minimal loop over the cheapest parts, with the project's checks and nothing else: no quota,
             no retries, no journal, no manifest, no resuming
"""

from __future__ import annotations

import argparse
import concurrent.futures
import csv
import hashlib
import http.client
import json
import os
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CAMERA = "BENCHMARK-AAAAAAAAAAAA"
START_MS = 1_780_000_000_000
STEP_MS = 1_000
THREADS = 4
GROUP = 100


def body_of(index: int) -> dict[str, Any]:
    return {"cameraUuid": f"{CAMERA}.v0", "timestampMs": START_MS + index * STEP_MS}


def project(port: int, count: int, out: Path) -> Callable[[], None]:
    import datetime

    import rhombus_dataset
    import rhombus_dataset.sources.rhombus  # imports are not counted for any of the three

    def iso(ms: int) -> str:
        return datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC).isoformat()

    plan = out.with_suffix(".yaml")
    plan.write_text(
        f"""
version: 1
name: benchmark
source:
  type: rhombus
  url: http://127.0.0.1:{port}
  limits: {{requests_per_second: 100000, burst: 1000, concurrency: {THREADS}, per_camera: {THREADS}}}
cameras: [{{uuid: {CAMERA}, name: bench, timezone: UTC}}]
windows: [{{start: "{iso(START_MS)}", end: "{iso(START_MS + count * STEP_MS)}"}}]
sampling: {{strategy: interval, every: {STEP_MS}ms}}
output: {{format: parquet, frames_per_shard: 1000}}
"""
    )
    os.environ["RHOMBUS_API_KEY"] = "benchmark"

    def run() -> None:
        outcome = rhombus_dataset.build(plan, out)
        assert outcome.complete
        assert sum(outcome.counts.values()) == count, outcome.counts

    return run


def script(port: int, count: int, out: Path) -> Callable[[], None]:
    import base64

    import cv2
    import numpy as np
    import requests

    out.mkdir()
    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=16))
    headers = {"x-auth-apikey": "benchmark", "x-auth-scheme": "api-token"}
    url = f"http://127.0.0.1:{port}/api/video/getExactFrameData"

    def fetch(index: int) -> list[Any]:
        response = session.post(url, json=body_of(index), headers=headers, timeout=30)
        data = base64.b64decode(response.json()["frameData"])
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        name = f"{index:06d}.jpg"
        cv2.imwrite(str(out / name), image)
        return [name, CAMERA, START_MS + index * STEP_MS, image.shape[1], image.shape[0]]

    def run() -> None:
        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool, (out / "m.csv").open("w") as file:
            csv.writer(file).writerows(pool.map(fetch, range(count)))

    return run


def floor(port: int, count: int, out: Path) -> Callable[[], None]:
    import cv2
    import numpy as np
    import orjson
    import pyarrow as pa
    import pyarrow.parquet as pq
    import pybase64

    from rhombus_dataset.imaging.jpeg import measure

    out.mkdir()
    cv2.setNumThreads(1)
    local = threading.local()
    headers = {"x-auth-apikey": "benchmark", "Content-Type": "application/json"}

    def fetch(index: int) -> tuple[bytes, str, Any]:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection("127.0.0.1", port)
        local.connection.request("POST", "/api/video/getExactFrameData", orjson.dumps(body_of(index)), headers)
        answer = orjson.loads(local.connection.getresponse().read())
        image = pybase64.b64decode(answer["frameData"], validate=True)
        return image, hashlib.sha256(image).hexdigest(), measure(image)

    def write(writer: pq.ParquetWriter, got: list[tuple[bytes, str, Any]]) -> None:
        offsets = np.zeros(len(got) + 1, np.int32)
        np.cumsum([len(image) for image, _, _ in got], out=offsets[1:])
        content = pa.py_buffer(b"".join(image for image, _, _ in got))
        images = pa.Array.from_buffers(pa.binary(), len(got), [None, pa.py_buffer(offsets), content])
        columns = {
            "image": images,
            "sha256": [sha256 for _, sha256, _ in got],
            **{
                name: [getattr(measures, name) for _, _, measures in got]
                for name in ("width_px", "height_px", "luma", "sharpness", "dhash")
            },
        }
        writer.write_table(pa.table(columns))

    def run() -> None:
        fields = [("image", pa.binary()), ("sha256", pa.string()), ("width_px", pa.int64())]
        fields += [("height_px", pa.int64()), ("luma", pa.float64()), ("sharpness", pa.float64())]
        schema = pa.schema([*fields, ("dhash", pa.string())])
        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            for start in range(0, count, 1000):
                path = out / f"{start:06d}.parquet"
                # Without a dictionary: the server repeats its images, and real ones don't.
                options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
                with pq.ParquetWriter(path, schema, **options) as w:
                    for group in range(start, min(start + 1000, count), GROUP):
                        write(w, list(pool.map(fetch, range(group, min(group + GROUP, count)))))
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                    hashlib.file_digest(file, "sha256")

    return run


CONTENDERS = {"project": project, "script": script, "floor": floor}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("contender", choices=sorted(CONTENDERS))
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    run = CONTENDERS[arguments.contender](arguments.port, arguments.count, arguments.out)
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    run()
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    print(
        json.dumps(
            {
                "cpu_ms": cpu_s / arguments.count * 1e3,
                "frames_per_s": arguments.count / wall_s,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
