"""A dataset in the form that another tool reads: one file a format, each a function of (dataset, folder)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from rhombus_dataset.dataset import Dataset
from rhombus_dataset.errors import DatasetError, UsageError, nearest
from rhombus_dataset.exports import coco, cvat, huggingface, imagefolder, label_studio, webdataset, yolo
from rhombus_dataset.store.files import make_folders, staged_folder

FORMATS: Final[dict[str, Callable[[Dataset, Path], None]]] = {
    "huggingface": huggingface.write,
    "imagefolder": imagefolder.write,
    "webdataset": webdataset.write,
    "coco": coco.write,
    "yolo": yolo.write,
    "cvat": cvat.write,
    "label-studio": label_studio.write,
}


def run_export(dataset: Dataset, to: str, out: Path) -> None:
    """Write the frames of ``dataset``, which may be a part of one, as ``to`` into the new folder ``out``.

    The folder appears under its name once it is whole; a run that is cut short leaves nothing there. The
    same frames and annotations give the same bytes. Memory is bounded, whatever the count of images.

    Raises UsageError for an unknown format or a folder that holds something, DatasetError and StorageError.
    """
    if to not in FORMATS:
        meant = nearest(to, FORMATS)
        raise UsageError(
            f"no format {to!r}: there are {', '.join(FORMATS)}" + (f"; did you mean {meant}?" if meant else "")
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: holds something already, and is left as it is: choose another folder")
    if not len(dataset):
        raise DatasetError(f"{dataset.path}: no frame to export")
    make_folders(out.absolute().parent)
    with staged_folder(out) as staged:
        FORMATS[to](dataset, staged)
