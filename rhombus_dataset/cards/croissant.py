"""The croissant.json of a dataset: Croissant 1.0 metadata.

https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from rhombus_dataset.frame import Status
from rhombus_dataset.planning.lock import Lock
from rhombus_dataset.store import layout, manifest, schema

# The JSON-LD context that the specification prescribes.
_CONTEXT: Final[dict[str, Any]] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "conformsTo": "dct:conformsTo",
    **{
        word: f"cr:{word}"
        for word in (
            "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet",
            "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet",
            "references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField",
            "transform",
        )
    },
}  # fmt: skip
_TYPES: Final = {
    pa.string(): "sc:Text",
    pa.int32(): "sc:Integer",
    pa.float64(): "sc:Float",
    pa.timestamp("ms", tz="UTC"): "sc:DateTime",
}
_MEANINGS: Final = {
    "frame_id": "20 hex digits that name camera, time and geometry",
    "timestamp": "UTC, to the millisecond",
    "timezone": "the camera's IANA zone",
    "downscale": "by how much width and height were divided",
    "crop_x": "permyriads of the full frame",
    "crop_y": "permyriads of the full frame",
    "crop_width": "permyriads of the full frame",
    "crop_height": "permyriads of the full frame",
    "width": "pixels of the stored picture",
    "height": "pixels of the stored picture",
    "luma": "mean grey value, 0 to 255",
    "sharpness": "variance of the Laplacian",
    "dhash": "64-bit difference hash",
    "sha256": "of the stored bytes",
}


def croissant_text(folder: Path, lock: Lock, table: pa.Table) -> str:
    """Return the metadata of a dataset, a pure function of its lock, manifest (``table``) and file hashes."""
    ok = table.filter(pc.field("status") == str(Status.OK))
    times = pc.min_max(table.column("timestamp"))
    first, last = (times[end].as_py() for end in ("min", "max"))
    parquet = lock.data_format == "parquet"
    metadata = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": lock.name,
        "description": (
            f"{ok.num_rows} frames of {len(lock.cameras)} cameras, chosen by a sampling plan "
            f"(strategy {lock.sampling.strategy}, seed {lock.seed})."
        ),
        "url": ".",
        "license": "not stated: whoever owns the footage names it",
        "temporalCoverage": f"{first:%FT%TZ}/{last:%FT%TZ}",
        "distribution": _parquet_files(folder) if parquet else _jpeg_files(),
        "recordSet": [_parquet_records()] if parquet else _jpeg_records(),
    }
    return json.dumps(metadata, indent=1, ensure_ascii=False) + "\n"


def _parquet_files(folder: Path) -> list[dict[str, Any]]:
    files = []
    for path in manifest.slice_paths(folder):
        header = manifest.read_header(path)
        name = layout.data_file(header.shard)
        files.append(
            {
                "@type": "cr:FileObject",
                "@id": name,
                "name": name,
                "contentUrl": name,
                "contentSize": f"{(folder / name).stat().st_size} B",
                "encodingFormat": "application/x-parquet",
                "sha256": header.data_sha256,
            }
        )
    return [
        *files,
        {
            "@type": "cr:FileSet",
            "@id": "data",
            "name": "data",
            "encodingFormat": "application/x-parquet",
            "includes": f"{layout.DATA_FOLDER}/*.parquet",
        },
    ]


def _parquet_records() -> dict[str, Any]:
    image = {
        "@type": "cr:Field",
        "@id": "frames/image",
        "name": "image",
        "description": "the encoded picture",
        "dataType": "sc:ImageObject",
        "source": {
            "fileSet": {"@id": "data"},
            "extract": {"column": "image"},
            "transform": {"jsonPath": "bytes"},
        },
    }
    return _record_set("data", [image])


def _jpeg_files() -> list[dict[str, Any]]:
    return [
        {
            "@type": "cr:FileSet",
            "@id": "data",
            "name": "data",
            "encodingFormat": "application/x-parquet",
            "includes": f"{layout.DATA_FOLDER}/*/{layout.JPEG_METADATA_FILE}",
        },
        {
            "@type": "cr:FileSet",
            "@id": "pictures",
            "name": "pictures",
            "encodingFormat": "image/jpeg",
            "includes": f"{layout.DATA_FOLDER}/*/*.jpg",
        },
    ]


def _jpeg_records() -> list[dict[str, Any]]:
    names = {
        "@type": "cr:Field",
        "@id": "frames/file_name",
        "name": "file_name",
        "description": "the picture's file, beside the metadata",
        "dataType": "sc:Text",
        "source": {"fileSet": {"@id": "data"}, "extract": {"column": "file_name"}},
    }
    images = {
        "@type": "cr:RecordSet",
        "@id": "pictures_by_name",
        "name": "pictures_by_name",
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"pictures_by_name/{name}",
                "name": name,
                "dataType": kind,
                "source": {"fileSet": {"@id": "pictures"}, "extract": {"fileProperty": extract}},
            }
            for name, kind, extract in (
                ("file_name", "sc:Text", "filename"),
                ("image", "sc:ImageObject", "content"),
            )
        ],
    }
    return [_record_set("data", [names]), images]


def _record_set(source: str, first: list[dict[str, Any]]) -> dict[str, Any]:
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"frames/{field.name}",
            "name": field.name,
            **({"description": _MEANINGS[field.name]} if field.name in _MEANINGS else {}),
            "dataType": _TYPES[field.type],
            "source": {"fileSet": {"@id": source}, "extract": {"column": field.name}},
        }
        for field in (*schema.PLANNED, *schema.MEASURED)
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "frames",
        "name": "frames",
        "description": "one record a frame that is there",
        "key": {"@id": "frames/frame_id"},
        "field": [*first, *fields],
    }
