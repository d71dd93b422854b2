"""Export to WebDataset: tar files whose samples are read in order."""

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
"""Maximum frames of a tar file: 30 to 300 MB, a usual size for streaming."""


def write(dataset: Dataset, folder: Path) -> None:
    """Write ``train-000000.tar`` and so on, with ``<frame_id>.jpg`` and ``<frame_id>.json`` for each frame.

    The JSON has the fields and the annotations of the frame. The key of a sample is the frame_id. It has no dot:
    WebDataset ends a key at the first dot, and a camera's UUID may have one.
    """
    for split in dataset.splits:
        part = dataset[split]
        for number, start in enumerate(range(0, len(part), FRAMES_PER_TAR)):
            with tarfile.open(folder / f"{split}-{number:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
                for frame in part[start : start + FRAMES_PER_TAR]:
                    _add(tar, f"{frame.frame_id}.jpg", frame.read())
                    _add(tar, f"{frame.frame_id}.json", _fields(frame))


def _fields(frame: Frame) -> bytes:
    annotations = [dataclasses.asdict(annotation) for annotation in frame.annotations]
    return json.dumps({**plain(frame), "annotations": annotations}, ensure_ascii=False).encode()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    # The defaults of TarInfo are owner 0 and time 0, so the same frames give the same bytes.
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
