"""The name of every file and folder of a dataset. ``stem`` is a shard's name, such as train-00000-of-00012."""

from __future__ import annotations

from typing import Final

PLAN_FILE: Final = "plan.yaml"
LOCK_FILE: Final = "plan.lock.json"
LOCK_TIMES_FILE: Final = "plan.lock.parquet"
CARD_FILE: Final = "README.md"
CROISSANT_FILE: Final = "croissant.json"
REPORT_FILE: Final = "report.html"
ERASED_FILE: Final = "erased.json"
TOP_UP_FILE: Final = "top-up.json"
DUPLICATES_FILE: Final = "duplicates.parquet"
MANIFEST_FOLDER: Final = "manifest"
DATA_FOLDER: Final = "data"
JPEG_METADATA_FILE: Final = "metadata.parquet"
"""Columns of the images, in the folder of a shard of format `jpeg`."""
ANNOTATIONS_FOLDER: Final = "annotations"
SKIPPED_LABELS_SUFFIX: Final = ".left.jsonl"
"""End of the name of a file of labels that match no frame. The name starts with an underscore: readers skip it."""
SCOUT_FOLDER: Final = "scout"
"""The dataset of small images that a plan with strategy `scout` builds first."""

BUILD_FOLDER: Final = ".build"
LOG_FILE: Final = f"{BUILD_FOLDER}/log.jsonl"
BUILD_LOCK_FILE: Final = f"{BUILD_FOLDER}/lock"
JOURNAL_FOLDER: Final = f"{BUILD_FOLDER}/journal"
REWRITE_FOLDER: Final = f"{BUILD_FOLDER}/rewrite"
"""Rewritten shards that will replace committed ones, one folder each."""
READY_FILE: Final = "ready"
"""Created in such a folder when both files of the shard are complete."""
FOLDERS: Final = (
    MANIFEST_FOLDER, DATA_FOLDER, ANNOTATIONS_FOLDER, SCOUT_FOLDER, BUILD_FOLDER, JOURNAL_FOLDER, REWRITE_FOLDER,
)  # fmt: skip
"""Every folder of a dataset that is not of a single shard."""


def manifest_file(stem: str) -> str:
    """Return the path of a shard's manifest slice."""
    return f"{MANIFEST_FOLDER}/{stem}.parquet"


def data_file(stem: str) -> str:
    """Return the path of a shard's data in format `parquet`."""
    return f"{DATA_FOLDER}/{stem}.parquet"


def data_folder(stem: str) -> str:
    """Return the path of a shard's data in format `jpeg`."""
    return f"{DATA_FOLDER}/{stem}"


def journal_file(stem: str) -> str:
    """Return the path of a shard's journal."""
    return f"{JOURNAL_FOLDER}/{stem}.journal"
