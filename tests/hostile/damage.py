"""Damage to datasets, with checksums that fit it: what a person who knows the format could write."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

from rhombus_dataset.hashing import json_sha256
from rhombus_dataset.store import data_files, layout, manifest, tables
from tests.test_fuzz import PIECES, mangled

OUTSIDE: Final = "../../outside"
"""The folder with files that nobody may open, from the dataset."""
MILLION: Final = 1_000_000


def texts(outside: Path) -> list[str]:
    targets = [f"{OUTSIDE}/secret.jpg", f"{outside}/secret.parquet", f"data/../{OUTSIDE}/secret.parquet"]
    return [
        *targets, "", ".", "..", "/", "/dev/zero", "/proc/self/mem", "a/b", "\0", "\n", "\x1b[2J", "\ud800"[:0],
        "é", "﷽" * 50, "A" * 22, "A" * 22 + ".v0", "x" * 5000, "{{7*7}}", "<script>alert(1)</script>",
        "@os.system('id')", "__import__('os').system('id')", "!!python/object/apply:os.system ['id']", "NaN", "-1",
        "1e999", "null", "data", "plan.lock.json", "train-00000-of-00001", "2026-13-99", "America/../../etc/passwd",
    ]  # fmt: skip


NUMBERS: Final = [0, -1, 1, 2, 10_000, 10_001, 2**31 - 1, 2**31, 2**62, 2**63 - 1, -(2**63), 2**64, 10**400]
FLOATS: Final = [0.5, -0.0, 1e308, float("inf"), float("nan"), 1e-320]


def json_value(rng: random.Random, outside: Path) -> Any:
    match rng.randrange(7):
        case 0:
            return rng.choice(NUMBERS)
        case 1:
            return rng.choice(FLOATS)
        case 2:
            return rng.choice([None, True, False, [], {}, [[]], {"": {}}])
        case 3:
            return [rng.choice(NUMBERS) for _ in range(rng.choice([1, 2, 3, 300]))]
        case 4:
            return {rng.choice(texts(outside)): rng.choice(NUMBERS)}
        case 5:
            nested: Any = 1
            for _ in range(rng.choice([5, 200, 900])):
                nested = [nested] if rng.random() < 0.5 else {"x": nested}
            return nested
    return rng.choice(texts(outside))


def change_json(content: Any, rng: random.Random, outside: Path) -> Any:
    """Replace, remove, add or double one value somewhere in ``content``."""
    if isinstance(content, dict | list) and content and rng.random() < 0.85:
        key: Any = rng.choice(list(content)) if isinstance(content, dict) else rng.randrange(len(content))
        if rng.random() < 0.15:
            if isinstance(content, dict) and rng.random() < 0.5:
                content[rng.choice(texts(outside))] = content.pop(key)
            elif isinstance(content, list):
                content.extend([content[key]] * rng.choice([1, 300]))
            else:
                del content[key]
        else:
            content[key] = change_json(content[key], rng, outside)
        return content
    return json_value(rng, outside)


def in_json(dataset: Path, rng: random.Random, outside: Path) -> None:
    """Change a value of the lock or of another record, and sign it."""
    names = [n for n in (layout.LOCK_FILE, layout.ERASED_FILE, layout.TOP_UP_FILE) if (dataset / n).is_file()]
    path = dataset / rng.choice([layout.LOCK_FILE, *names])
    content = json.loads(path.read_bytes())
    signed = isinstance(content, dict) and content.pop("sha256", None) is not None
    content = change_json(content, rng, outside)
    with contextlib.suppress(RecursionError):
        if signed and isinstance(content, dict):
            content["sha256"] = json_sha256(content)
        path.write_bytes(json.dumps(content).encode())


def cell(rng: random.Random, kind: pa.DataType, outside: Path) -> Any:
    if rng.random() < 0.1:
        return None
    if pa.types.is_floating(kind):
        return rng.choice(FLOATS)
    if pa.types.is_integer(kind) or pa.types.is_timestamp(kind):
        low, high = (-(2**31), 2**31 - 1) if kind == pa.int32() else (-(2**63), 2**63 - 1)
        value = rng.choice([n for n in NUMBERS if low <= n <= high])
        return pa.scalar(value, pa.int64()).cast(kind) if pa.types.is_timestamp(kind) else value
    return rng.choice(texts(outside))


def change_table(table: pa.Table, rng: random.Random, outside: Path) -> pa.Table:
    """Change a value, the rows or the columns of a table."""
    at = rng.randrange(table.num_columns)
    field, column = table.schema.field(at), table.column(at)
    match rng.randrange(12):
        case 0:
            return table.take(pa.array([rng.randrange(table.num_rows) for _ in range(table.num_rows)]))
        case 1:
            return table.slice(rng.randrange(3), rng.choice([0, 1, table.num_rows]))
        case 2:
            return pa.concat_tables([table] * rng.choice([2, 300]))
        case 3:
            return table.remove_column(at)
        case 4:
            return table.append_column(rng.choice([field.name, *texts(outside)]), column)
        case 5:
            kind = rng.choice([pa.string(), pa.binary(), pa.list_(pa.string()), pa.int64(), pa.bool_(), pa.null()])
            return table.set_column(at, field.name, pa.nulls(table.num_rows, kind))
        case 6:
            return table.select(rng.sample(table.column_names, table.num_columns))
    if pa.types.is_struct(field.type) or not table.num_rows:
        return table
    values = column.to_pylist()
    for row in range(table.num_rows) if rng.random() < 0.3 else [rng.randrange(table.num_rows)]:
        values[row] = cell(rng, field.type, outside)
    values = [
        value.as_py() if isinstance(value, pa.Scalar) and value.type == field.type else value for value in values
    ]
    try:
        return table.set_column(at, field, pa.chunked_array([pa.array(values, field.type)]))
    except (pa.ArrowException, ValueError, OverflowError):
        return table


def slices(dataset: Path) -> list[Path]:
    return sorted((dataset / layout.MANIFEST_FOLDER).glob("*.parquet"))


def in_manifest(dataset: Path, rng: random.Random, outside: Path) -> None:
    """Change a slice, its header, or both, and sign it."""
    path = rng.choice(slices(dataset))
    header, table = manifest.read_header(path), pq.read_table(path, partitioning=None)
    table = change_table(table.replace_schema_metadata(None), rng, outside)
    content = dataclasses.asdict(header)
    with contextlib.suppress(Exception):  # a table of other columns has no such checksum
        content["content_sha256"] = manifest.content_sha256(table)
    if rng.random() < 0.15:
        content = change_json(content, rng, outside)
    metadata = {b"rhombus_dataset": json.dumps(content).encode()}
    if rng.random() < 0.1:
        path = path.with_name(rng.choice(["train-00000-of-00001", "x..y", "train-00007-of-00002"]) + ".parquet")
    pq.write_table(table.replace_schema_metadata(metadata), path, **tables.MANIFEST)


def sign_data(dataset: Path, stem: str) -> None:
    """Give the slice of a shard the checksum of its data."""
    path = dataset / layout.manifest_file(stem)
    header, table = manifest.read_header(path), pq.read_table(path, partitioning=None)
    folder, file = dataset / layout.data_folder(stem), dataset / layout.data_file(stem)
    if header.data_format == "jpeg":
        hashes = [(p.name, hashlib.sha256(p.read_bytes()).hexdigest()) for p in folder.iterdir() if p.is_file()]
        checksum = manifest.folder_sha256(hashes)
    else:
        checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    manifest.write_slice(
        path, table.replace_schema_metadata(None), dataclasses.replace(header, data_sha256=checksum)
    )


def hostile_image(rng: random.Random) -> bytes:
    good: bytes = simplejpeg.encode_jpeg(np.full((90, 160, 3), rng.randrange(256), np.uint8), 90)
    size = good.find(b"\xff\xc0") + 5
    scan = good[good.find(b"\xff\xda") : -2]
    return rng.choice(
        [
            b"",
            b"\xff\xd8\xff\xd9",
            b"GIF89a" + bytes(50),
            good[:size] + b"\xff\xff\xff\xff" + good[size + 4 :],
            good[:size] + b"\x4e\x20\x4e\x20" + good[size + 4 :],
            good[:-2] + scan * 3000 + b"\xff\xd9",
            good[: rng.randrange(4, len(good))],
            mangled(good, rng, PIECES),
        ]
    )


def in_images(dataset: Path, rng: random.Random, outside: Path) -> None:
    """Replace an image, or the columns beside the images, and sign the slice and the data."""
    path = rng.choice(slices(dataset))
    header, table = manifest.read_header(path), pq.read_table(path, partitioning=None)
    rows = table.to_pylist()
    ok = [row for row in rows if row["status"] == "ok"]
    if not ok:
        return
    row, image = rng.choice(ok), hostile_image(rng)
    if rng.random() < 0.7:
        row["sha256"] = hashlib.sha256(image).hexdigest()
        changed = pa.Table.from_pylist(rows, schema=table.schema.remove_metadata())
        header = dataclasses.replace(header, content_sha256=manifest.content_sha256(changed))
        manifest.write_slice(path, changed, header)
    if header.data_format == "jpeg":
        (dataset / row["file"]).write_bytes(image)
    else:
        file = dataset / row["file"]
        data = pq.read_table(file, partitioning=None)
        images = data.column("image").to_pylist()
        images[row["row"]] = {"bytes": image, "path": rng.choice(texts(outside))}
        data = data.set_column(
            0, data.schema.field(0), pa.chunked_array([pa.array(images, data.schema.field(0).type)])
        )
        if rng.random() < 0.3:
            data = change_table(data, rng, outside)
        if data.schema.equals(table.schema) or "image" not in data.column_names or rng.random() < 0.2:
            pq.write_table(data, file)  # other settings: compressed, and with a dictionary
        else:
            with data_files.open_writer(file, data.schema) as writer:
                writer.write_table(data)
    sign_data(dataset, header.shard)


def bomb(dataset: Path, rng: random.Random, outside: Path) -> None:
    """A small file that takes gigabytes in memory."""
    kind = rng.randrange(4)
    path = rng.choice(slices(dataset))
    names = [path, *(dataset / layout.ANNOTATIONS_FOLDER).glob("*.parquet"), dataset / layout.DUPLICATES_FILE]
    path = rng.choice([name for name in names if name.exists()])
    table = pq.read_table(path, partitioning=None)
    texts_of = [i for i, field in enumerate(table.schema) if field.type == pa.string()]
    if not texts_of or not table.num_rows:
        return
    at = rng.choice(texts_of)
    rows = 2000 if kind else 50_000
    repeated = table.take(pa.array([0] * rows))
    text = "x" * (200_000 if kind else 20_000)
    column = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([text]))
    settings: dict[str, Any] = {"compression": "zstd"}
    if kind == 2:
        settings |= {"use_dictionary": False, "column_encoding": {table.schema.field(at).name: "DELTA_BYTE_ARRAY"}}
        column = column.cast(pa.string())
    bombed = repeated.set_column(at, table.schema.field(at).name, column)
    if kind == 2:
        bombed = bombed.set_column(at, table.schema.field(at), column)
    pq.write_table(bombed.replace_schema_metadata(table.schema.metadata), path, **settings)


def in_lists(dataset: Path, rng: random.Random, outside: Path) -> None:
    """Change annotations, the list of near-duplicates or the times of the lock."""
    paths = [
        *(dataset / layout.ANNOTATIONS_FOLDER).glob("*.parquet"),
        dataset / layout.DUPLICATES_FILE,
        dataset / layout.LOCK_TIMES_FILE,
    ]
    paths = [path for path in paths if path.exists()]
    if not paths:
        return in_manifest(dataset, rng, outside)
    path = rng.choice(paths)
    table = change_table(pq.read_table(path, partitioning=None), rng, outside)
    if path.parent.name == layout.ANNOTATIONS_FOLDER and rng.random() < 0.2:
        path = path.with_name(rng.choice(["a b", "--help", "x" * 200, "$(id)", "\x1b[2J"]) + ".parquet")
    pq.write_table(table, path)
    return None


def in_bytes(dataset: Path, rng: random.Random, outside: Path) -> None:
    """Change bytes of any file. Half of the time at the end of a Parquet file: its footer. Sign the data."""
    files = [path for path in sorted(dataset.rglob("*")) if path.is_file() and path.name != layout.PLAN_FILE]
    path = rng.choice(files)
    content = path.read_bytes()
    at = max(0, len(content) - 3000) if rng.random() < 0.5 else 0
    path.write_bytes(content[:at] + mangled(content[at:], rng))
    relative = path.relative_to(dataset)
    if relative.parts[0] == layout.DATA_FOLDER and rng.random() < 0.8:
        sign_data(dataset, relative.parts[1].removesuffix(".parquet"))


def in_the_tree(dataset: Path, rng: random.Random, outside: Path) -> None:
    """Replace a file or folder by a link, a pipe, a folder or a huge file, or plant one."""
    files = [path for path in sorted(dataset.rglob("*")) if path.name != layout.PLAN_FILE]
    path = rng.choice(files)
    if rng.random() < 0.3:
        planted = [
            f".{path.name}.tmp", f".{path.name}.0123456789abcdef.tmp", "x.parquet", "erased.json", "top-up.json",
            "report.html", "duplicates.parquet", "_x.left.jsonl", "metadata.parquet", "croissant.json",
        ]  # fmt: skip
        path = path.with_name(rng.choice(planted))
    if os.path.lexists(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    match rng.randrange(6):
        case 0:
            path.symlink_to(outside if "." not in path.name[1:] else outside / "secret.parquet")
        case 1:
            path.symlink_to(rng.choice([path, Path("/dev/zero"), Path("..") / ".." / "outside", outside / "new"]))
        case 2:
            os.mkfifo(path)
        case 3:
            path.mkdir()
        case 4:
            with path.open("wb") as file:
                file.truncate(200_000_000)  # sparse. Checksums take time for what is there


DAMAGES: Final[dict[str, tuple[Callable[[Path, random.Random, Path], None], int]]] = {
    "manifest": (in_manifest, 30),
    "json": (in_json, 25),
    "lists": (in_lists, 10),
    "images": (in_images, 15),
    "bytes": (in_bytes, 25),
    "tree": (in_the_tree, 15),
    "bomb": (bomb, 4),
}
"""What is damaged, and how often."""


ACCIDENTS: Final = 0.2
"""Share of the cases with changed bytes in one file, and no checksum that fits."""


def accident(dataset: Path, rng: random.Random) -> bool:
    """Change bytes of a file that has a checksum, or is computed from such files. Return whether one differs."""
    hidden = {layout.PLAN_FILE, layout.BUILD_FOLDER, layout.ANNOTATIONS_FOLDER, layout.ERASED_FILE}
    files = [path for path in sorted(dataset.rglob("*")) if hidden.isdisjoint(path.parts) and path.is_file()]
    path = rng.choice(files)
    before = path.read_bytes()
    path.write_bytes(mangled(before, rng))
    return path.read_bytes() != before


def damage(dataset: Path, rng: random.Random, outside: Path) -> list[str]:
    """Damage a dataset in one to three ways. Return their names."""
    names = rng.choices(list(DAMAGES), [weight for _, weight in DAMAGES.values()], k=rng.choice([1, 1, 1, 2, 3]))
    done = []
    for name in names:
        # What is damaged already can't always be read for a second change.
        with contextlib.suppress(Exception):
            DAMAGES[name][0](dataset, rng, outside)
            done.append(name)
    return done
