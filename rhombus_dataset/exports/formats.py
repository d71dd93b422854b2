"""Export of a dataset to the format of another tool. Each format is a function of (dataset, folder)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rhombus_dataset.dataset import Dataset, open_dataset
from rhombus_dataset.errors import DatasetError, UsageError, nearest
from rhombus_dataset.exports import coco, cvat, huggingface, imagefolder, label_studio, webdataset, yolo
from rhombus_dataset.store.files import make_folders, remove, remove_leftovers, staged_folder, write_file

FORMATS: Final[dict[str, Callable[[Dataset, Path], None]]] = {
    "huggingface": huggingface.write,
    "imagefolder": imagefolder.write,
    "webdataset": webdataset.write,
    "coco": coco.write,
    "yolo": yolo.write,
    "cvat": cvat.write,
    "label-studio": label_studio.write,
}


def export_dataset(
    dataset: Dataset | str | os.PathLike[str],
    to: str,
    out: Path,
    on_start: Callable[[int], None],
    on_frame: Callable[[], None],
) -> Path:
    """Write the frames of ``dataset`` in the format ``to`` into the new folder ``out``. Return ``out``.

    The folder appears under its name once it is complete; an interrupted run leaves nothing there. The same frames
    and annotations give the same bytes. Memory is bounded, whatever the number of images. ``on_start`` is called
    with the number of frames, ``on_frame`` for each one read.

    Raises UsageError for an unknown format or a folder that is not empty, DatasetError and StorageError.
    """
    frames = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    if to not in FORMATS:
        meant = nearest(to, FORMATS)
        raise UsageError(
            f"unknown format {to!r}: expected one of {', '.join(FORMATS)}"
            + (f"; did you mean {meant}?" if meant else "")
        )
    intent, content = out.absolute().parent / f".{out.name}.export.json", _identity(frames, to)
    if out.is_dir() and intent.is_file() and not intent.is_symlink() and intent.read_bytes() == content:
        # A run was killed after it had put the complete folder in place.
        remove(intent)
        return out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: exists and is not an empty folder. Nothing was written: choose another folder")
    if not len(frames):
        raise DatasetError(f"{frames.path}: no frames to export")
    make_folders(out.absolute().parent)
    for path in (out, intent):
        remove_leftovers(path)
    on_start(len(frames))
    with staged_folder(out) as staged:
        FORMATS[to](frames.watched(on_frame), staged)
        write_file(intent, content)
    remove(intent)
    return out


def _identity(frames: Dataset, to: str) -> bytes:
    """Return what names an export: the dataset, its frames and the format, as JSON."""
    ids = "".join(frames.to_arrow().column("frame_id").to_pylist())
    rows_sha256 = hashlib.sha256(ids.encode()).hexdigest()
    return json.dumps({"dataset": frames.fingerprint, "frames": rows_sha256, "format": to}).encode()
