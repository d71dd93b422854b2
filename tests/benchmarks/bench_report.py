"""Open, filter and report on a dataset of 100,000 planned frames, and open the report in Chromium.

    python -m tests.benchmarks.bench_report           # 100,000 rows, 20 cameras, five months

The manifest is made up; every row has the same small image.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
from playwright.sync_api import sync_playwright

import rhombus_dataset
from rhombus_dataset.imaging.jpeg import encode_rgb
from rhombus_dataset.planning.lock_file import lock_files
from rhombus_dataset.planning.resolve import resolve
from rhombus_dataset.planning.sampling import sample
from rhombus_dataset.store import layout, manifest, schema
from tests.conftest import NOW_MS

PLAN = """
version: 1
name: big
seed: 1
source: {{type: rhombus}}
cameras:
{cameras}
views:
  full: {{downscale: 2}}
  door: {{crop: {{x: 25%, y: 10%, width: 50%, height: 60%}}}}
windows:
  - {{start: 2026-01-01, end: 2026-06-01, daily: ["06:00-21:00"]}}
sampling: {{strategy: stratified, frames: {moments}, min_gap: 30s}}
splits: {{by: time, block: 1h, embargo: 5m, fractions: {{train: 0.8, validation: 0.1, test: 0.1}}}}
output: {{format: jpeg}}
"""


def make_up(folder: Path, rows: int) -> None:
    zones = ("America/Los_Angeles", "Europe/Berlin")
    cameras = "\n".join(
        f"  - {{uuid: CAMERA{i:016d}, name: cam-{i:02d}, timezone: {zones[i % 2]}}}" for i in range(20)
    )
    (folder / "plan.yaml").write_text(PLAN.format(cameras=cameras, moments=rows // 2))
    lock = resolve(rhombus_dataset.validate(folder / "plan.yaml"), NOW_MS)
    for name, content in lock_files(lock).items():
        (folder / name).write_bytes(content)
    schedule = sample(lock)
    rng = np.random.default_rng(1)
    (folder / "manifest").mkdir()
    (folder / "data").mkdir()
    image = encode_rgb(rng.integers(0, 255, (360, 640, 3)).astype(np.uint8))
    for shard in schedule.shards:
        planned = schedule.planned_table(shard.start, shard.stop)
        count = len(planned)
        lost = rng.random(count) < 0.03
        images = [f"{layout.data_folder(shard.stem)}/{name}.jpg" for name in planned.column("frame_id").to_pylist()]
        (folder / layout.data_folder(shard.stem)).mkdir()
        (folder / images[0]).write_bytes(image)
        for name in images[1:]:
            (folder / name).hardlink_to(folder / images[0])  # a file system allows some ten thousand links a file
        measured = {
            "width": np.full(count, 640),
            "height": np.full(count, 360),
            "mime_type": np.full(count, "image/jpeg", object),
            "luma": rng.normal(120, 30, count).clip(0, 255),
            "sharpness": rng.lognormal(6, 1, count),
            "dhash": np.array([f"{n:016x}" for n in rng.integers(0, 2**20, count)], object),
            "sha256": np.array([f"{n:064x}" for n in rng.integers(0, 2**62, count)], object),
            "file": np.array(images, object),
            "row": np.zeros(count, np.int64),
        }
        columns = {name: planned.column(name) for name in planned.column_names}
        columns |= {name: pa.array(values, mask=lost) for name, values in measured.items()}
        columns["status"] = pa.array(np.where(lost, "missing", "ok").tolist())
        columns["reason"] = pa.array(np.full(count, "NO_FOOTAGE_AT_TIMESTAMP", object), mask=~lost)
        columns["warning"] = pa.nulls(count, pa.string())
        table = pa.table(columns).select(schema.manifest_schema().names).cast(schema.manifest_schema())
        header = manifest.SliceHeader(1, schedule.digest, shard.stem, "jpeg", "0" * 64, "0" * 64)
        manifest.write_slice(folder / layout.manifest_file(shard.stem), table, header)


@contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    print(f"{what:40}{time.perf_counter() - began:8.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_up(folder, options.rows)
        with timed(f"open {options.rows:,} rows"):
            dataset = rhombus_dataset.open_dataset(folder)
        with timed("filter by a condition"):
            dataset.filter("luma > 100 and camera_name == 'cam-03'")
        with timed("write the report"):
            page = rhombus_dataset.report(folder)
        print(f"{'the page':40}{page.stat().st_size / 1e6:8.2f} MB")
        print(f"{'peak memory':40}{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:8.0f} MB")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            tab = browser.new_page()
            with timed("open it in Chromium"):
                tab.goto(page.as_uri())
            with timed("choose a cell of the heat map"):
                tab.locator("table button").first.click()
            browser.close()


if __name__ == "__main__":
    main()
