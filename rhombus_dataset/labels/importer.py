"""Import of labels: each is joined to its frame and written as an annotation of the dataset."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from rhombus_dataset.cards.readme import write_cards
from rhombus_dataset.dataset import Dataset, Frame, open_dataset
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
from rhombus_dataset.store.files import exclusive_lock, make_folders, remove, remove_temporary_files, write_file

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Names of annotations: file names on every system, and none begins with an underscore, which readers skip."""


@dataclass(frozen=True, slots=True)
class LabelsOutcome:
    """The result of an import.

    ``file``: the annotations that were written. ``boxes``, ``classes``: their counts. ``frames``: the number of
    frames that they belong to. ``skipped``: labels that could not be imported, each with its ``problem``.
    ``skipped_file``: a file of the skipped labels, one JSON object a line, or None if there are none.
    """

    file: Path
    boxes: int
    classes: int
    frames: int
    skipped: tuple[ImportedLabel, ...]
    skipped_file: Path | None

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain values."""
        return {
            "file": str(self.file),
            "boxes": self.boxes,
            "classes": self.classes,
            "frames": self.frames,
            "skipped": [label.to_json() for label in self.skipped],
            "skipped_file": None if self.skipped_file is None else str(self.skipped_file),
        }


def run_import(folder: Path, path: Path, name: str | None, made_by: str | None) -> LabelsOutcome:
    """Import labels into the dataset in ``folder`` and update its card. See ``api.import_labels``."""
    opened = open_dataset(folder, duplicates=True)
    with exclusive_lock(folder):
        remove_temporary_files(folder)
        outcome = _import(opened, path, name, made_by)
        if (folder / layout.CARD_FILE).exists():
            write_cards(folder)
    return outcome


def _import(dataset: Dataset, path: Path, name: str | None, made_by: str | None) -> LabelsOutcome:
    """Write the labels at ``path`` as annotations of the dataset, under ``name``.

    ``name``: by default the name of the file. Earlier annotations under the name are replaced, unless every label
    is skipped. ``made_by``: the author, used if the file names none. The file name of a label's image contains the
    id of its frame.

    Raises UsageError, DatasetError and StorageError.
    """
    name = name or Path(os.path.realpath(path)).stem
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a valid name for annotations: expected up to 100 letters, digits, dots, dashes and "
            "underscores. Give one with --name"
        )
    frames = {frame.frame_id: frame for frame in dataset}
    status_of = dict(zip(*(dataset.manifest.column(c).to_pylist() for c in ("frame_id", "status")), strict=True))
    imported: list[Annotation] = []
    skipped: list[ImportedLabel] = []
    for label in read_labels(path):
        ids = [found for found in FRAME_ID.findall(label.image) if found in status_of]
        frame = frames.get(ids[-1]) if ids else None
        if label.problem is not None:
            skipped.append(label)
        elif frame is None:
            why = f"the frame is {status_of[ids[-1]]}" if ids else "its name holds no frame_id of this dataset"
            skipped.append(replace(label, problem=why))
        elif _is_outside(annotation := _annotation(frame, label, label.made_by or made_by or name), frame):
            skipped.append(replace(label, problem="its box lies beside the image"))
        else:
            imported.append(annotation)
    if not imported and not skipped:
        raise UsageError(f"{path}: no labels in it, so nothing was imported. Expected boxes or classes of images")
    folder = folder_of(dataset.path)
    make_folders(folder)
    file = folder / f"{name}.parquet"
    skipped_file = folder / f"_{name}{layout.SKIPPED_LABELS_SUFFIX}"
    if skipped:
        lines = (json.dumps(label.to_json(), ensure_ascii=False) + "\n" for label in skipped)
        write_file(skipped_file, "".join(lines).encode())
    else:
        remove(skipped_file)
    if imported:  # an empty file would replace earlier annotations, and say that nothing is there
        write_annotations(file, [asdict(annotation) for annotation in imported])
    return LabelsOutcome(
        file=file,
        boxes=sum(annotation.kind == "box" for annotation in imported),
        classes=sum(annotation.kind == "class" for annotation in imported),
        frames=len({annotation.frame_id for annotation in imported}),
        skipped=tuple(skipped),
        skipped_file=skipped_file if skipped else None,
    )


def _annotation(frame: Frame, label: ImportedLabel, made_by: str) -> Annotation:
    """Return the annotation of a label. A box in an image of another size is scaled to the stored image."""
    if label.box is None:
        return class_annotation(frame.frame_id, label.label, made_by=made_by, confidence=label.confidence)
    size = frame.width_px, frame.height_px
    x, y, width, height = label.box
    if label.size is not None and label.size != size:
        across, down = size[0] / label.size[0], size[1] / label.size[1]
        x, y, width, height = x * across, y * down, width * across, height * down
    return box_annotation(
        frame.frame_id,
        label.label,
        (x, y, width, height),
        frame.geometry,
        size,
        made_by=made_by,
        confidence=label.confidence,
    )


def _is_outside(annotation: Annotation, frame: Frame) -> bool:
    """Return whether a box has no pixel of the image inside it."""
    if annotation.kind == "class":
        return False
    x, y, width, height = annotation.box
    return not (x < frame.width_px and y < frame.height_px and x + width > 0 and y + height > 0)
