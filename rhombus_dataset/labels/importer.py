"""Labels that were made elsewhere, joined to the frames that they are of."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rhombus_dataset.dataset import Dataset, Frame
from rhombus_dataset.errors import UsageError
from rhombus_dataset.labels.label import ImportedLabel
from rhombus_dataset.labels.reader import read_labels
from rhombus_dataset.store import layout
from rhombus_dataset.store.annotations import (
    FRAME_ID,
    Annotation,
    box_annotation,
    class_annotation,
    folder_of,
    write_annotations,
)
from rhombus_dataset.store.files import make_folders, remove, write_file

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class LabelsOutcome:
    """``file``: what was written; ``frames``: of how many frames ``boxes`` and ``classes`` are.

    ``left``: what could not be taken, each with its ``problem``; it stands in ``left_file`` too.
    """

    file: Path
    boxes: int
    classes: int
    frames: int
    left: tuple[ImportedLabel, ...]
    left_file: Path | None

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "file": str(self.file),
            "boxes": self.boxes,
            "classes": self.classes,
            "frames": self.frames,
            "left": [said.to_json() for said in self.left],
            "left_file": None if self.left_file is None else str(self.left_file),
        }


def run_import(dataset: Dataset, path: Path, name: str | None, made_by: str | None) -> LabelsOutcome:
    """Write what the labels at ``path`` say of the dataset's frames as its annotations called ``name``.

    ``name`` is by default that of the file; what was imported under it before is replaced. ``made_by`` is who made
    them, where the file does not say. An image's frame is the one whose id its name holds.

    Raises UsageError, DatasetError and StorageError.
    """
    name = name or path.resolve().stem
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for annotations: expected letters, digits, dots, dashes; use --name")
    frames = {frame.frame_id: frame for frame in dataset}
    absent = dict(zip(*(dataset.manifest.column(c).to_pylist() for c in ("frame_id", "status")), strict=True))
    taken: list[Annotation] = []
    left: list[ImportedLabel] = []
    for said in read_labels(path):
        ids = [found for found in FRAME_ID.findall(said.image) if found in absent]
        frame = frames.get(ids[-1]) if ids else None
        if said.problem is not None:
            left.append(said)
        elif frame is None:
            why = f"the frame is {absent[ids[-1]]}" if ids else "its name holds no frame_id of this dataset"
            left.append(_left(said, why))
        elif _is_beside(annotation := _annotation(frame, said, said.made_by or made_by or name), frame):
            left.append(_left(said, "its box lies beside the image"))
        else:
            taken.append(annotation)
    folder = folder_of(dataset.path)
    make_folders(folder)
    file = folder / f"{name}.parquet"
    left_file = folder / f"_{name}{layout.SKIPPED_LABELS_SUFFIX}"
    if left:
        write_file(left_file, "".join(json.dumps(s.to_json(), ensure_ascii=False) + "\n" for s in left).encode())
    else:
        remove(left_file)
    write_annotations(file, [asdict(annotation) for annotation in taken])
    return LabelsOutcome(
        file=file,
        boxes=sum(annotation.kind == "box" for annotation in taken),
        classes=sum(annotation.kind == "class" for annotation in taken),
        frames=len({annotation.frame_id for annotation in taken}),
        left=tuple(left),
        left_file=left_file if left else None,
    )


def _annotation(frame: Frame, said: ImportedLabel, made_by: str) -> Annotation:
    if said.box is None:
        return class_annotation(frame.frame_id, said.label, made_by=made_by, confidence=said.confidence)
    size = frame.width_px, frame.height_px
    x, y, width, height = said.box
    if said.size is not None and said.size != size:
        across, down = size[0] / said.size[0], size[1] / said.size[1]
        x, y, width, height = x * across, y * down, width * across, height * down
    return box_annotation(
        frame.frame_id,
        said.label,
        (x, y, width, height),
        frame.geometry,
        size,
        made_by=made_by,
        confidence=said.confidence,
    )


def _is_beside(annotation: Annotation, frame: Frame) -> bool:
    if annotation.kind == "class":
        return False
    x, y, width, height = annotation.box
    return not (x < frame.width_px and y < frame.height_px and x + width > 0 and y + height > 0)


def _left(said: ImportedLabel, problem: str) -> ImportedLabel:
    return ImportedLabel(said.image, said.label, said.box, said.size, said.confidence, said.made_by, problem)
