"""Read single images at random from a dataset of full-HD frames, three ways in one run.

    python -m tests.benchmarks.bench_read             # 2,000 frames of 260 kB, 500 reads, 5 repeats

``reader`` is this package's; ``row group`` reads the group that holds the image with pyarrow, as people do;
``datasets`` indexes the folder as Hugging Face loads it. Each is warm: what is opened once is opened before the
clock starts. Compare the ratios: absolute figures are this machine's, this minute's.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rhombus_dataset.store import schema
from rhombus_dataset.store.data_files import ROW_GROUP_IMAGES, open_writer
from rhombus_dataset.store.images import ImageReader

os.environ.setdefault("HF_HUB_OFFLINE", "1")
IMAGE_BYTES = 260_000


def write(folder: Path, frames: int) -> None:
    rng = np.random.default_rng(1)
    data_schema = schema.data_schema()
    (folder / "data").mkdir()
    with open_writer(folder / "data" / "train-00000-of-00001.parquet", data_schema) as writer:
        for start in range(0, frames, ROW_GROUP_IMAGES):
            count = min(ROW_GROUP_IMAGES, frames - start)
            images = [{"bytes": rng.bytes(IMAGE_BYTES), "path": None} for _ in range(count)]
            columns = {field.name: pa.nulls(count, field.type) for field in data_schema}
            columns["image"] = pa.array(images, schema.IMAGE.type)
            writer.write_table(pa.table(columns, schema=data_schema))


def readers(folder: Path) -> dict[str, Callable[[int], bytes]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import datasets

        datasets.disable_progress_bars()
        loaded = datasets.load_dataset(str(folder), split="train", cache_dir=str(folder / "cache"))
        undecoded = loaded.cast_column("image", datasets.Image(decode=False))
    name = "data/train-00000-of-00001.parquet"
    reader = ImageReader(folder)
    file = pq.ParquetFile(folder / name)

    def by_row_group(row: int) -> bytes:
        group = file.read_row_group(row // ROW_GROUP_IMAGES, columns=["image.bytes"])
        return bytes(group.column(0)[row % ROW_GROUP_IMAGES]["bytes"].as_py())

    return {
        "reader": lambda row: reader.read(name, row),
        "row group": by_row_group,
        "datasets": lambda row: bytes(undecoded[row]["image"]["bytes"]),
    }


def cpu_ms() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return 1000 * (usage.ru_utime + usage.ru_stime)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--reads", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(folder, options.frames)
        ways = readers(folder)
        rows = np.random.default_rng(2).integers(options.frames, size=options.reads).tolist()
        assert len({tuple(read(row) for row in rows[:5]) for read in ways.values()}) == 1
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(options.repeats):
            for name, read in ways.items():
                cpu, wall = cpu_ms(), time.perf_counter()
                for row in rows:
                    read(row)
                wall_ms = 1000 * (time.perf_counter() - wall)
                found[name].append(((cpu_ms() - cpu) / options.reads, wall_ms / options.reads))
    print(f"{'':10}{'CPU ms/image (min-max)':>34}{'wall ms/image (min-max)':>34}")
    for name, runs in found.items():
        cells = [
            f"{statistics.median(values):.3f} ({min(values):.3f}-{max(values):.3f})"
            for values in zip(*runs, strict=True)
        ]
        print(f"{name:10}" + "".join(f"{cell:>34}" for cell in cells))
    own = statistics.median(wall for _, wall in found["reader"])
    for name in ("row group", "datasets"):
        print(f"reader / {name}: {own / statistics.median(wall for _, wall in found[name]):.3f} of the wall time")


if __name__ == "__main__":
    main()
