"""The dataset's own README.md: a data card with Hugging Face front matter, every figure computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pandas as pd
import yaml

from rhombus_dataset import manifest, schema
from rhombus_dataset.frame import Status
from rhombus_dataset.lock import Lock, load_lock
from rhombus_dataset.splits import split_names
from rhombus_dataset.storage import write_file

_SIZE_CATEGORIES: Final[list[tuple[int, str]]] = [
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
]


def write_card(dataset: str | Path) -> Path:
    """Write the card of the dataset in a folder. Raises DatasetError where there is none."""
    folder = Path(dataset)
    path = folder / schema.CARD_FILE
    write_file(path, card_text(folder).encode())
    return path


def card_text(folder: Path) -> str:
    """The card, a pure function of the dataset's lock, manifest and data files."""
    lock = load_lock(folder)
    rows = manifest.read_manifest(folder).to_pandas()
    front = yaml.safe_dump(_front_matter(folder, lock, rows), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n".join(_body(lock, rows)) + "\n"


def _front_matter(folder: Path, lock: Lock, rows: pd.DataFrame) -> dict[str, Any]:
    ok = rows[rows["status"] == Status.OK]
    by_split = ok.groupby("split").size()
    splits: list[dict[str, Any]] = []
    data_files: list[dict[str, str]] = []
    for name in split_names(lock.splits):
        pattern = f"{schema.DATA_FOLDER}/{name}-*" + (".parquet" if lock.data_format == "parquet" else "/*")
        # A split without a single picture is not one that can be loaded.
        if by_split.get(name, 0):
            size = sum(p.stat().st_size for p in sorted(folder.glob(pattern)) if p.is_file())
            splits.append({"name": name, "num_bytes": size, "num_examples": int(by_split[name])})
            data_files.append({"split": name, "path": pattern})
    total = sum(int(split["num_bytes"]) for split in splits)
    features = [
        {"name": name, "dtype": "image" if feature["_type"] == "Image" else feature["dtype"]}
        for name, feature in schema.features().items()
    ]
    return {
        "pretty_name": lock.name,
        "size_categories": [next((text for limit, text in _SIZE_CATEGORIES if len(ok) < limit), "n>10M")],
        "tags": ["image", "video-surveillance", "rhombus-dataset"],
        "configs": [{"config_name": "default", "data_files": data_files}],
        "dataset_info": {
            "features": features,
            "splits": splits,
            "download_size": total,
            "dataset_size": total,
        },
    }


def _body(lock: Lock, rows: pd.DataFrame) -> list[str]:
    counts = rows["status"].value_counts()
    ok = rows[rows["status"] == Status.OK]
    bytes_read = 'load_dataset("path/to/this/folder", split="train")'
    lines = [
        f"# {lock.name}",
        "",
        f"{int(counts.get(Status.OK, 0)):,} frames of {rows['camera_uuid'].nunique()} cameras, from "
        f"{_when(rows['timestamp'].min())} to {_when(rows['timestamp'].max())}, chosen by the sampling plan "
        f"in `{schema.PLAN_FILE}` (strategy `{lock.sampling['strategy']}`, seed {lock.seed}) and fetched "
        f"{_origin(lock)}.",
        "",
        "## Outcomes",
        "",
        "Every planned frame has a row in `manifest/`, whatever became of it.",
        "",
        *_table(["status", "frames"], [[s, f"{counts[s]:,}"] for s in map(str, Status) if counts.get(s, 0)]),
        "",
    ]
    reasons = {str(r): int(n) for r, n in rows["reason"].dropna().value_counts().sort_index().items()}
    if reasons:
        lines += ["Why frames are not there:", ""]
        lines += [
            *_table(["reason", "frames"], [[f"`{_code(r)}`", f"{n:,}"] for r, n in reasons.items()]),
            "",
        ]
    lines += ["## Cameras", ""]
    lines += _table(
        ["camera", "location", "time zone", "planned", "ok"],
        [
            [
                _cell(str(name)),
                _cell(str(part["location"].iloc[0] or "")),
                str(part["timezone"].iloc[0]),
                f"{len(part):,}",
                f"{int((part['status'] == Status.OK).sum()):,}",
            ]
            for name, part in rows.groupby("camera_name", sort=True)
        ],
    )
    lines += ["", "## Views", ""]
    geometry = ["view", "downscale", "crop_x", "crop_y", "crop_width", "crop_height"]
    views = rows.assign(ok=rows["status"] == Status.OK).groupby(geometry, sort=True)["ok"].sum().reset_index()
    lines += _table(
        ["view", "downscale", "crop x", "y", "width", "height (permyriads)", "ok"],
        [[*map(str, view[:-1]), f"{view[-1]:,}"] for view in views.itertuples(index=False, name=None)],
    )
    sizes = ok.groupby(["width", "height"]).size().reset_index(name="n")
    told = ", ".join(f"{int(w)} x {int(h)} ({n:,})" for w, h, n in sizes.itertuples(index=False, name=None))
    lines += ["", f"Sizes of the pictures in pixels: {told or 'none'}.", "", "## Splits", ""]
    lines += _table(
        ["split", "planned", "ok"],
        [
            [name, f"{int((rows['split'] == name).sum()):,}", f"{int((ok['split'] == name).sum()):,}"]
            for name in split_names(lock.splits)
        ],
    )
    lines += ["", _splits_text(lock), "", "## Privacy", "", _masks_text(lock), "", "## Known gaps", ""]
    lines += _gaps(lock, rows)
    lines += [
        "",
        "## Loading",
        "",
        "```python",
        "import pandas as pd",
        "from datasets import load_dataset",
        "",
        f"{bytes_read}",
        'pd.read_parquet("path/to/this/folder/manifest")',
        "```",
        "",
        "Timestamps are UTC, crops are permyriads (1/10000) of the full frame, sizes are pixels of the stored",
        "picture. Bytes are as the source sent them, but for pictures with a mask painted on them; `sha256` is",
        "of the stored bytes.",
        "",
        "## Licence",
        "",
        "Not stated: whoever owns the footage names it, as `license` in the front matter of this file.",
    ]
    return lines


def _origin(lock: Lock) -> str:
    if lock.source["type"] == "rhombus":
        return f"from `{lock.source['url']}`"
    return "from recordings on disk"


def _splits_text(lock: Lock) -> str:
    if lock.splits is None:
        return "The plan makes no splits."
    if lock.splits["by"] == "camera":
        return "Split by camera: no camera is in two splits."
    return (
        f"Split by time: blocks of {lock.splits['block'] // 1000} s, the same for all cameras, with "
        f"{lock.splits['embargo'] // 1000} s left out where the split changes."
    )


def _masks_text(lock: Lock) -> str:
    masked = {camera.name: len(camera.masks) for camera in lock.cameras if camera.masks}
    if not masked:
        return "The plan masks nothing: faces, people and number plates may be seen."
    told = ", ".join(f"{_cell(name)} ({n})" for name, n in masked.items())
    return (
        f"Masks were painted black before anything was stored: {told}. Elsewhere, faces, people and "
        "number plates may be seen."
    )


def _gaps(lock: Lock, rows: pd.DataFrame) -> list[str]:
    gaps = []
    for name, part in rows.groupby("camera_name", sort=True):
        lost = int((part["status"] != Status.OK).sum())
        if lost:
            share = 100 * lost / len(part)
            gaps.append(
                f"- {_cell(str(name))}: {lost:,} of {len(part):,} planned frames are not there ({share:.1f} %)."
            )
    gaps += [f"- {note}." for note in lock.notes]
    return gaps or ["None: every planned frame is there."]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows]]


def _cell(text: str) -> str:
    """Text that cannot break out of a Markdown table."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>|#" else c for c in text)


def _code(text: str) -> str:
    return text.replace("`", "'").replace("|", "\\|")


def _when(moment: Any) -> str:
    return f"{pd.Timestamp(moment):%Y-%m-%d %H:%M} UTC"
