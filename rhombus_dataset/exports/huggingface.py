"""Export to Hugging Face: a folder that can be pushed as a dataset repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from rhombus_dataset.cards.readme import DataFiles, exported_card_text
from rhombus_dataset.dataset import Dataset, Frame
from rhombus_dataset.frame import Status
from rhombus_dataset.store import data_files, layout, schema

_OBJECTS: Final = pa.field(
    "objects",
    pa.struct([("bbox", pa.list_(pa.list_(pa.float64(), 4))), ("category", pa.list_(pa.string()))]),
)
_CLASSES: Final = pa.field("classes", pa.list_(pa.string()))


def write(dataset: Dataset, folder: Path) -> None:
    """Write ``data/train-00000-of-00002.parquet`` and so on, and the card as README.md.

    If there are annotations, boxes are in ``objects`` (``bbox``: x, y, width, height in pixels of the stored
    image; ``category``) and classes of whole images in ``classes``.
    """
    data_schema, features = _schema(set(dataset.annotations().column("kind").to_pylist()))
    (folder / layout.DATA_FOLDER).mkdir()
    files = []
    for split in dataset.splits:
        part = dataset[split]
        size = dataset.lock.frames_per_shard
        count = -(-len(part) // size)
        for number in range(count):
            path = folder / layout.data_file(f"{split}-{number:05d}-of-{count:05d}")
            _write_file(path, part[number * size : (number + 1) * size], data_schema)
        pattern = f"{layout.DATA_FOLDER}/{split}-*.parquet"
        written = sum(path.stat().st_size for path in folder.glob(pattern))
        files.append(DataFiles(split, pattern, written, len(part)))
    # The card of a whole dataset also counts the frames without an image.
    is_whole = len(dataset) == pc.sum(pc.equal(dataset.manifest.column("status"), str(Status.OK))).as_py()
    rows = (dataset.manifest if is_whole else dataset.to_arrow()).to_pandas()
    card = exported_card_text(dataset.lock, rows, dataset.path, files, features)
    (folder / layout.CARD_FILE).write_text(card, "utf-8")


def _schema(kinds: set[str]) -> tuple[pa.Schema, list[dict[str, Any]]]:
    """Return the schema of the files, and the features for the front matter of the card."""
    fields = list(schema.data_schema())
    features: dict[str, Any] = dict(schema.features())
    listed = schema.card_features()
    if "box" in kinds:
        fields.append(_OBJECTS)
        numbers = {"feature": {"dtype": "float64", "_type": "Value"}, "length": 4, "_type": "List"}
        features["objects"] = {"bbox": {"feature": numbers, "_type": "List"}, "category": _list_of_texts()}
        bbox = {"name": "bbox", "list": {"list": "float64", "length": 4}}
        listed.append({"name": "objects", "struct": [bbox, {"name": "category", "list": "string"}]})
    if "class" in kinds:
        fields.append(_CLASSES)
        features["classes"] = _list_of_texts()
        listed.append({"name": "classes", "list": "string"})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema(fields, metadata=metadata), listed


def _list_of_texts() -> dict[str, Any]:
    return {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}


def _write_file(path: Path, part: Dataset, data_schema: pa.Schema) -> None:
    with data_files.open_writer(path, data_schema) as writer:
        start = size = 0
        content: list[dict[str, Any]] = []
        for number, frame in enumerate(part, 1):
            content.append({"bytes": frame.read(), "path": f"{frame.frame_id}.jpg"})
            size += len(content[-1]["bytes"])
            full = len(content) == data_files.ROW_GROUP_IMAGES or size > data_files.ROW_GROUP_BYTES
            if full or number == len(part):
                writer.write_table(_table(part[start:number], content, data_schema))
                start, size, content = number, 0, []


def _table(part: Dataset, content: list[dict[str, Any]], data_schema: pa.Schema) -> pa.Table:
    rows = part.to_arrow()
    columns = {name: rows.column(name) for name in rows.column_names}
    columns[schema.IMAGE.name] = pa.array(content, schema.IMAGE.type)
    columns[_OBJECTS.name] = pa.array([_objects(frame) for frame in part], _OBJECTS.type)
    classes = [[a.label for a in frame.annotations if a.kind == "class"] for frame in part]
    columns[_CLASSES.name] = pa.array(classes, _CLASSES.type)
    return pa.table([columns[name] for name in data_schema.names], schema=data_schema)


def _objects(frame: Frame) -> dict[str, Any]:
    boxes = [annotation for annotation in frame.annotations if annotation.kind == "box"]
    return {"bbox": [list(box.box) for box in boxes], "category": [box.label for box in boxes]}
