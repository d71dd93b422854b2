"""Export of a dataset to the format of another tool. Each format is a function of (dataset, folder)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rhombus_dataset.dataset import Dataset, open_dataset
from rhombus_dataset.errors import DatasetError, UsageError, did_you_mean
from rhombus_dataset.exports import coco, cvat, huggingface, imagefolder, label_studio, webdataset, yolo
from rhombus_dataset.hashing import json_sha256
from rhombus_dataset.store import layout
from rhombus_dataset.store.annotations import annotation_paths
from rhombus_dataset.store.files import (
    as_storage_error,
    inside,
    make_folders,
    remove,
    remove_leftovers,
    sha256_of,
    staged_folder,
    sync,
    write_file,
)

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
    with the number of frames, ``on_frame`` for each one read; neither is called if a killed run had completed the
    same export.

    Raises UsageError for an unknown format or a folder that is not empty, DatasetError and StorageError.
    """
    frames = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    if to not in FORMATS:
        raise UsageError(f"unknown format {to!r}: expected one of {', '.join(FORMATS)}{did_you_mean(to, FORMATS)}")
    intent = out.absolute().with_name(f".{out.absolute().name}.export.json")
    export = _identity(frames, to)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not _is_export(out, intent, export):
            raise UsageError(
                f"{out}: exists and is not an empty folder. Nothing was written: choose another folder"
            )
        # A run was killed after it had moved the complete folder to its place.
        _finish(out, intent)
        return out
    if not len(frames):
        raise DatasetError(f"{frames.path}: no frames to export")
    make_folders(out.absolute().parent)
    for path in (out, intent):
        remove_leftovers(path)
    on_start(len(frames))
    try:
        with staged_folder(out) as staged:
            FORMATS[to](frames.watched(on_frame), staged)
            write_file(intent, _intent(export, staged))
    except BaseException:
        if not _is_export(out, intent, export):
            remove(intent)
        raise
    _finish(out, intent)
    return out


def _identity(frames: Dataset, to: str) -> dict[str, str]:
    """Return what an export is computed from: the format, the frames, and hashes of the dataset's files."""
    listed = (inside(frames.path, name) for name in (layout.LOCK_FILE, layout.DUPLICATES_FILE))
    files = [*listed, *annotation_paths(frames.path)]
    with as_storage_error(frames.path):
        hashes = [(path.name, sha256_of(path)) for path in files if path.is_file()]
    return {
        "format": to,
        "dataset": frames.fingerprint,
        "frames_sha256": json_sha256(frames.to_arrow().column("frame_id").to_pylist()),
        "files_sha256": json_sha256(hashes),
    }


def _intent(export: dict[str, str], folder: Path) -> bytes:
    """Return the content of the intent file: the export, and the inode of its folder, which a rename keeps."""
    return json.dumps({**export, "inode": folder.stat().st_ino}).encode() + b"\n"


def _is_export(out: Path, intent: Path, export: dict[str, str]) -> bool:
    """Return whether the folder ``out`` is this export, complete, of a run that was killed before it ended."""
    with as_storage_error(out):
        return (
            out.is_dir()
            and intent.is_file()
            and not intent.is_symlink()
            and intent.read_bytes() == _intent(export, out)
        )


def _finish(out: Path, intent: Path) -> None:
    with as_storage_error(out):
        sync(intent.parent)
    remove(intent)
