"""Choose 10,000 moments from a scout pass of 1,000,000 small frames.

    python -m tests.benchmarks.bench_scout            # 20 cameras, a frame every ten seconds, six days
    python -m tests.benchmarks.bench_scout --rows 100000 --repeats 3

The pass is a real dataset of small drawn images (160 x 90): one drawn day of a camera, over and over. Choosing
runs in a process of its own, so its memory can be told (on Linux).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import rhombus_dataset
from rhombus_dataset.building.run import journal_of
from rhombus_dataset.building.shard_writer import commit_shard
from rhombus_dataset.frame import Outcome, Status
from rhombus_dataset.imaging.drawn_scene import draw
from rhombus_dataset.imaging.jpeg import encode_rgb, measure
from rhombus_dataset.planning.lock import Count, ScoutSettings
from rhombus_dataset.planning.lock_file import lock_files
from rhombus_dataset.planning.resolve import resolve
from rhombus_dataset.planning.sampling import sample
from rhombus_dataset.scout.picks import select_frames
from tests.conftest import NOW_MS

CAMERAS = 20
EVERY_S = 10
MIDNIGHT_MS = 1_780_297_200_000
"""2026-06-01 in Los Angeles."""


def small_frame(second: int) -> Outcome:
    rgb = draw("BENCHMARK-camera-AAAAA", MIDNIGHT_MS + second * 1000, -7 * 3_600_000)
    image = encode_rgb(np.asarray(cv2.resize(rgb, (160, 90), interpolation=cv2.INTER_AREA), np.uint8), 85, "420")
    sha256 = hashlib.sha256(image).hexdigest()
    return Outcome(Status.OK, None, None, image, "image/jpeg", sha256, measure(image))


def make_up(folder: Path, rows: int) -> None:
    hours = -(-rows * EVERY_S // (CAMERAS * 3600))
    end = f"2026-06-{1 + hours // 24:02d}T{hours % 24:02d}:00"
    cameras = [
        {"uuid": f"CAMERA{i:016d}", "name": f"cam-{i:02d}", "timezone": "America/Los_Angeles"}
        for i in range(CAMERAS)
    ]
    plan = {
        "version": 1, "name": "scout", "source": {"type": "rhombus"}, "cameras": cameras,
        "views": {"scout": {"downscale": 8}}, "windows": [{"start": "2026-06-01", "end": end}],
        "sampling": {"strategy": "interval", "every": f"{EVERY_S}s"}, "output": {"frames_per_shard": 5000},
    }  # fmt: skip
    (folder / "plan.yaml").write_text(json.dumps(plan))
    lock = resolve(rhombus_dataset.validate(folder / "plan.yaml"), NOW_MS)
    for name, content in lock_files(lock).items():
        (folder / name).write_bytes(content)
    schedule = sample(lock)
    with ProcessPoolExecutor() as pool:
        day = list(pool.map(small_frame, range(0, 86_400, EVERY_S), chunksize=100))
    (folder / ".build" / "journal").mkdir(parents=True)
    for shard in schedule.shards:
        journal = journal_of(folder, schedule, shard)
        for row in range(shard.start, shard.stop):
            second = int(schedule.timestamp_ms[row] - MIDNIGHT_MS) // 1000
            journal.append(row, day[second % 86_400 // EVERY_S])
        journal.sync()
        commit_shard(folder, schedule, shard, journal)
        journal.remove()


def choose(folder: Path, frames: int) -> dict[str, Any]:
    settings = ScoutSettings(EVERY_S * 1000, 8, Count(frames, per_camera=False), ("camera", "hour"), 1000, 0.05)
    began, used = time.perf_counter(), time.process_time()
    result = select_frames(folder, settings, 1, None, "benchmark").result
    return {
        "wall_s": time.perf_counter() - began,
        "cpu_s": time.process_time() - used,
        "peak_mb": peak_mb(),
        "new": result.new,
        "events": result.events,
        "chosen": result.chosen,
    }


def peak_mb() -> float:
    """The most memory that this process held; ``ru_maxrss`` would count what its parent held when it began."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        began = time.perf_counter()
        make_up(folder, options.rows)
        rows = len(rhombus_dataset.open_dataset(folder))
        print(f"made up {rows:,} small frames in {time.perf_counter() - began:.0f} s")
        runs = []
        for _ in range(options.repeats):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                runs.append(pool.submit(choose, folder, rows // 100).result())
        found = runs[0]
        wall, cpu = (statistics.median(run[name] for run in runs) for name in ("wall_s", "cpu_s"))
        print(
            f"{found['new']:,} show something new, in {found['events']:,} events; {found['chosen']:,} were chosen"
        )
        print(
            f"chosen in {wall:.0f} s ({1000 * wall / rows:.3f} ms a frame), {cpu:.0f} s of CPU, "
            f"with at most {max(run['peak_mb'] for run in runs):.0f} MB"
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
