"""The Arrow schemas of a dataset. A column has the same name in every file.

Hugging Face ``datasets`` loads ``image`` as an image only if the column is the nullable
``struct<bytes: binary, path: string>`` and the schema's ``huggingface`` metadata has the feature of every column.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

import pyarrow as pa

FORMAT_VERSION: Final = 1

# Known before the request.
PLANNED: Final[tuple[pa.Field[Any], ...]] = (
    pa.field("frame_id", pa.string()),
    pa.field("split", pa.string()),
    pa.field("camera_uuid", pa.string()),
    pa.field("camera_name", pa.string()),
    pa.field("location", pa.string()),
    pa.field("timestamp", pa.timestamp("ms", tz="UTC")),
    pa.field("timezone", pa.string()),
    pa.field("view", pa.string()),
    pa.field("downscale", pa.int32()),
    pa.field("crop_x", pa.int32()),
    pa.field("crop_y", pa.int32()),
    pa.field("crop_width", pa.int32()),
    pa.field("crop_height", pa.int32()),
)
GEOMETRY: Final = ("downscale", "crop_x", "crop_y", "crop_width", "crop_height")
"""Columns in the order of the fields of Geometry."""
# Measured on the received image.
MEASURED: Final[tuple[pa.Field[Any], ...]] = (
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("mime_type", pa.string()),
    pa.field("luma", pa.float64()),
    pa.field("sharpness", pa.float64()),
    pa.field("dhash", pa.string()),
    pa.field("sha256", pa.string()),
)
OUTCOME: Final[tuple[pa.Field[Any], ...]] = (
    pa.field("status", pa.string()),
    pa.field("reason", pa.string()),
    pa.field("warning", pa.string()),
    pa.field("file", pa.string()),
    pa.field("row", pa.int32()),
)
DEPLOYMENT: Final = pa.field("deployment", pa.string())
CHOICE: Final[tuple[pa.Field[Any], ...]] = (
    pa.field("score", pa.float64()),
    pa.field("chosen_for", pa.string()),
)
"""Columns of plans that select frames by their content: score, and the reason of the selection."""
IMAGE: Final = pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))

_HF_DTYPES: Final = {
    pa.string(): "string",
    pa.int32(): "int32",
    pa.float64(): "float64",
    pa.timestamp("ms", tz="UTC"): "timestamp[ms, tz=UTC]",
}


def features() -> dict[str, dict[str, str]]:
    """Return the Hugging Face features of the data columns, in order."""
    found: dict[str, dict[str, str]] = {"image": {"_type": "Image"}}
    for field in (*PLANNED, *MEASURED):
        found[field.name] = {"dtype": _HF_DTYPES[field.type], "_type": "Value"}
    return found


def card_features() -> list[dict[str, Any]]:
    """Return the same features as the front matter of a data card lists them."""
    return [
        {"name": name, "dtype": "image" if feature["_type"] == "Image" else feature["dtype"]}
        for name, feature in features().items()
    ]


def data_schema() -> pa.Schema:
    """Return the schema of ``data/*.parquet``: the ``ok`` frames with their images."""
    info = json.dumps({"info": {"features": features()}})
    return pa.schema([IMAGE, *PLANNED, *MEASURED], metadata={"huggingface": info})


def manifest_schema(more: Iterable[pa.Field[Any]] = ()) -> pa.Schema:
    """Return the schema of ``manifest/*.parquet``: one row for each planned frame, of any status.

    ``more``: the columns that only some plans have, DEPLOYMENT and CHOICE.
    """
    return pa.schema([*PLANNED, *MEASURED, *OUTCOME, *more])


SIZE_WARNING: Final = "size"
"""First word of a warning about an image's size. The size follows. It is the last warning of its row."""
