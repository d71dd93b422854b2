"""The README.md of a dataset: a data card with Hugging Face front matter. All numbers are computed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
import yaml

from rhombus_dataset.cards.croissant import croissant_text
from rhombus_dataset.dataset import read_duplicates
from rhombus_dataset.frame import Status
from rhombus_dataset.planning.lock import Lock, LockedScout
from rhombus_dataset.planning.lock_file import load_lock
from rhombus_dataset.planning.splits import split_names, splits_in_words
from rhombus_dataset.store import layout, manifest, schema
from rhombus_dataset.store.annotations import read_annotations
from rhombus_dataset.store.files import write_file

_SIZE_CATEGORIES: Final[list[tuple[int, str]]] = [
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
]


@dataclass(frozen=True, slots=True)
class DataFiles:
    """The files of one split: a glob pattern of their names, their total bytes, and their number of frames."""

    split: str
    pattern: str
    size_bytes: int
    frames: int


def write_cards(dataset: str | Path) -> Path:
    """Write README.md and croissant.json of the dataset in a folder, and return the path of README.md.

    Raises DatasetError if the folder has no dataset, and StorageError.
    """
    folder = Path(dataset)
    for name, text in card_texts(folder).items():
        write_file(folder / name, text.encode())
    return folder / layout.CARD_FILE


def card_texts(folder: Path) -> dict[str, str]:
    """Return the texts of README.md and croissant.json, by file name.

    A pure function of the dataset's lock, manifest, annotations and data files. Raises DatasetError.
    """
    lock = load_lock(folder)
    table = manifest.read_manifest(folder)
    rows = table.to_pandas()
    lines = _front_matter(lock, _data_files(folder, lock, rows), schema.card_features())
    lines += _body(lock, rows, folder)
    return {
        layout.CARD_FILE: "\n".join(lines) + "\n",
        layout.CROISSANT_FILE: croissant_text(folder, lock, table),
    }


def exported_card_text(
    lock: Lock, rows: pd.DataFrame, folder: Path, files: list[DataFiles], features: list[dict[str, Any]]
) -> str:
    """Return the card of a dataset, or of a part of it, that is exported to Hugging Face.

    ``rows``: the manifest rows of the part. ``folder``: the folder of the dataset. ``features``: the value of
    ``dataset_info.features`` in the front matter.
    """
    return "\n".join(_front_matter(lock, files, features) + _body(lock, rows, folder, exported=True)) + "\n"


def _data_files(folder: Path, lock: Lock, rows: pd.DataFrame) -> list[DataFiles]:
    by_split = rows[rows["status"] == Status.OK].groupby("split").size()
    files = []
    for name in split_names(lock.splits):
        pattern = f"{layout.DATA_FOLDER}/{name}-*" + (".parquet" if lock.data_format == "parquet" else "/*")
        # `load_dataset` fails for a split without files.
        if by_split.get(name, 0):
            size = sum(p.stat().st_size for p in sorted(folder.glob(pattern)) if p.is_file())
            files.append(DataFiles(name, pattern, size, int(by_split[name])))
    return files


def _front_matter(lock: Lock, files: list[DataFiles], features: list[dict[str, Any]]) -> list[str]:
    frames = sum(part.frames for part in files)
    size = sum(part.size_bytes for part in files)
    front = {
        "pretty_name": lock.name,
        "size_categories": [next((text for limit, text in _SIZE_CATEGORIES if frames < limit), "n>10M")],
        "tags": ["image", "video-surveillance", "rhombus-dataset"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": part.split, "path": part.pattern} for part in files],
            }
        ],
        "dataset_info": {
            "features": features,
            "splits": [
                {"name": part.split, "num_bytes": part.size_bytes, "num_examples": part.frames} for part in files
            ],
            "download_size": size,
            "dataset_size": size,
        },
    }
    return ["---", *yaml.safe_dump(front, sort_keys=False, allow_unicode=True).splitlines(), "---", ""]


def _body(lock: Lock, rows: pd.DataFrame, folder: Path, *, exported: bool = False) -> list[str]:
    counts = rows["status"].value_counts()
    ok = rows[rows["status"] == Status.OK]
    lines = [
        f"# {lock.name}",
        "",
        f"{int(counts.get(Status.OK, 0)):,} frames of {rows['camera_uuid'].nunique()} cameras, from "
        f"{_when(rows['timestamp'].min())} to {_when(rows['timestamp'].max())}, chosen by the sampling plan "
        f"{'' if exported else f'in `{layout.PLAN_FILE}` '}(strategy `{lock.sampling.strategy}`, "
        f"seed {lock.seed}) and fetched {_origin(lock)}.",
        "",
        "## Outcomes",
        "",
        "What became of the frames that were planned."
        if exported
        else "Every planned frame has a row in `manifest/`, whatever became of it.",
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
    text = ", ".join(f"{int(w)} x {int(h)} ({n:,})" for w, h, n in sizes.itertuples(index=False, name=None))
    lines += ["", f"Sizes of the pictures in pixels: {text or 'none'}.", "", "## Splits", ""]
    lines += _table(
        ["split", "planned", "ok"],
        [
            [name, f"{int((rows['split'] == name).sum()):,}", f"{int((ok['split'] == name).sum()):,}"]
            for name in split_names(lock.splits)
        ],
    )
    lines += [
        "",
        _cell(splits_in_words(lock.splits)),
        *_scouting(lock),
        *_duplicates(folder, lock, exported),
        *_annotations(folder, rows),
        "",
        "## Privacy",
        "",
        _masks_text(lock),
        "",
    ]
    lines += [_erased_text(rows, exported), "", "## Known gaps", "", *_gaps(lock, rows)]
    lines += [
        "",
        "## Loading",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        f'load_dataset("path/to/this/folder", split="{next(iter(ok["split"]), split_names(lock.splits)[0])}")',
        *(
            []
            if exported
            else [
                "",
                "import rhombus_dataset",
                "",
                'rhombus_dataset.open_dataset("path/to/this/folder")[0].decode()',
            ]
        ),
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
    if lock.source.url is not None:
        return f"from `{lock.source.url}`"
    return "from recordings on disk"


def _masks_text(lock: Lock) -> str:
    masked = {camera.name: len(camera.masks) for camera in lock.cameras if camera.masks}
    if not masked:
        return "The plan masks nothing: faces, people and number plates may be seen."
    text = ", ".join(f"{_cell(name)} ({n})" for name, n in masked.items())
    return (
        f"Masks were painted black before anything was stored: {text}. Elsewhere, faces, people and "
        "number plates may be seen."
    )


def _erased_text(rows: pd.DataFrame, exported: bool) -> str:
    erased = int((rows["status"] == Status.ERASED).sum())
    text = f"Frames taken out on request since: {erased:,}."
    return (
        text if exported else f"{text} `rhombus-dataset erase` takes out more; copies and exports have to follow."
    )


def _scouting(lock: Lock) -> list[str]:
    if not isinstance(lock.sampling, LockedScout):
        return []
    settings, result = lock.sampling.settings, lock.sampling.result
    text = (
        f"Chosen from a scout pass of {result.pass_frames:,} small frames (one in "
        f"{settings.every_ms / 1000:g} s, {result.pass_ok:,} of them there), of which {result.new:,} show "
        f"something new, in {result.events:,} events. {result.chosen:,} moments were chosen, of "
        f"{result.covered:,} events; about {100 * settings.quiet:g} % are quiet on purpose. The columns "
        "`score` (the share of the picture that is new) and `chosen_for` of the manifest say why. So this is no "
        "picture of how often things happen."
    )
    return ["", "## Selection", "", text]


def _duplicates(folder: Path, lock: Lock, exported: bool) -> list[str]:
    if lock.dedup is None:
        return []
    count = len(read_duplicates(folder))
    within = f"within {lock.dedup.within_ms // 1000:,} s"
    if exported:
        text = f"{count:,} frames that repeat another {within} are left out."
    else:
        text = (
            f"{count:,} frames repeat another {within}: `{layout.DUPLICATES_FILE}` lists them. "
            "`rhombus_dataset.open_dataset` and exports pass over them; `load_dataset` does not."
        )
    return ["", "## Near-duplicates", "", text]


def _annotations(folder: Path, rows: pd.DataFrame) -> list[str]:
    table = read_annotations(folder).to_pandas()
    table = table[table["frame_id"].isin(rows.loc[rows["status"] == Status.OK, "frame_id"])]
    if table.empty:
        return []
    counts = table.groupby(["label", "kind", "made_by"], sort=True)["frame_id"].agg(["size", "nunique"])
    cells = [
        [_cell(str(label)), str(kind), _cell(str(made_by)), f"{int(n):,}", f"{int(frames):,}"]
        for (label, kind, made_by), n, frames in counts.itertuples(name=None)
    ]
    head = ["label", "kind", "made by", "annotations", "frames"]
    return ["", "## Annotations", "", *_table(head, cells)]


def _gaps(lock: Lock, rows: pd.DataFrame) -> list[str]:
    gaps = []
    for name, part in rows.groupby("camera_name", sort=True):
        lost = int((part["status"] != Status.OK).sum())
        if lost:
            share = 100 * lost / len(part)
            gaps.append(
                f"- {_cell(str(name))}: {lost:,} of {len(part):,} planned frames are not there ({share:.1f} %)."
            )
    notes = [*lock.notes, *(lock.scout.notes if lock.scout is not None else [])]
    gaps += [f"- {_cell(note)}." for note in notes]
    return gaps or ["None: every planned frame is there."]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows]]


def _cell(text: str) -> str:
    """Return text with Markdown's special characters escaped, so that it stays within its table cell."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>|#" else c for c in text)


def _code(text: str) -> str:
    return text.replace("`", "'").replace("|", "\\|")


def _when(moment: Any) -> str:
    return f"{pd.Timestamp(moment):%Y-%m-%d %H:%M} UTC"
