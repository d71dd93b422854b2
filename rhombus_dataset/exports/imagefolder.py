"""Export to Hugging Face ``imagefolder``: images by split, with a table of their fields."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from rhombus_dataset.dataset import Dataset
from rhombus_dataset.exports.images import FIELDS
from rhombus_dataset.store import layout


def write(dataset: Dataset, folder: Path) -> None:
    """Write ``train/<frame_id>.jpg`` and so on, and ``train/metadata.parquet`` with one row for each image."""
    for split in dataset.splits:
        part = dataset[split]
        (folder / split).mkdir()
        for frame in part:
            (folder / split / f"{frame.frame_id}.jpg").write_bytes(frame.read())
        rows = part.to_arrow().select(FIELDS)
        names = pc.binary_join_element_wise(rows.column("frame_id"), "jpg", ".")
        pq.write_table(rows.add_column(0, "file_name", names), folder / split / layout.JPEG_METADATA_FILE)
