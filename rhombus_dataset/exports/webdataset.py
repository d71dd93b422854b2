"""WebDataset: tar files of samples that are read in order."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from pathlib import Path
from typing import Final

from rhombus_dataset.dataset import Dataset, Frame
from rhombus_dataset.exports.images import plain

FRAMES_PER_TAR: Final = 1000


def write(dataset: Dataset, folder: Path) -> None:
    """``train-000000.tar`` and so on: for each frame ``<frame_id>.jpg`` and ``<frame_id>.json``.

    The JSON holds the frame's fields and its annotations. The key is the frame's id: a camera's UUID has a
    dot, at which WebDataset would end it.
    """
    for split in dataset.splits:
        part = dataset.split(split)
        for number, start in enumerate(range(0, len(part), FRAMES_PER_TAR)):
            with tarfile.open(folder / f"{split}-{number:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
                for frame in part[start : start + FRAMES_PER_TAR]:
                    _add(tar, f"{frame.frame_id}.jpg", frame.read())
                    _add(tar, f"{frame.frame_id}.json", _fields(frame))


def _fields(frame: Frame) -> bytes:
    said = [dataclasses.asdict(annotation) for annotation in frame.annotations]
    return json.dumps({**plain(frame), "annotations": said}, ensure_ascii=False).encode()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    # A TarInfo's defaults are owner 0 and time 0: the same frames give the same bytes.
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
