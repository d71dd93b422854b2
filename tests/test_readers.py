"""Datasets can be read by common tools without conversion."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

import rhombus_dataset
from rhombus_dataset.api import info
from tests.conftest import CONFIGS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # warnings of their dependencies, at import
    import datasets
    import mlcroissant

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    for data_format in ("parquet", "jpeg"):
        text = (CONFIGS / "recordings.yaml").read_text().replace("format: jpeg", f"format: {data_format}")
        plan = folder / f"{data_format}.yaml"
        plan.write_text(text.replace("site: demo-site.yaml", f"site: {CONFIGS / 'demo-site.yaml'}"))
        rhombus_dataset.build(plan, folder / data_format)
    return folder


def counts(path: Path) -> dict[str, int]:
    return {split: n["ok"] for split, n in info(path).by_split.items() if n.get("ok")}


def check(loaded: Any, path: Path) -> None:
    assert {split: len(part) for split, part in loaded.items()} == counts(path)
    for split, part in loaded.items():
        assert isinstance(part.features["image"], datasets.Image)
        row = part[0]
        assert row["image"].size == (row["width"], row["height"]) == (640, 360)
        assert row["split"] == split
        assert row["timestamp"].utcoffset().total_seconds() == 0
        assert len(row["frame_id"]) == 20


@pytest.mark.parametrize("data_format", ["parquet", "jpeg"])
def test_datasets_loads_the_folder(built: Path, tmp_path: Path, data_format: str) -> None:
    path = built / data_format
    check(datasets.load_dataset(str(path), cache_dir=str(tmp_path)), path)


def test_datasets_streams_it(built: Path) -> None:
    stream = datasets.load_dataset(str(built / "parquet"), split="train", streaming=True)
    rows = list(stream)
    assert len(rows) == counts(built / "parquet")["train"]
    assert rows[0]["image"].size == (640, 360)


def test_imagefolder_reads_the_jpeg_format(built: Path, tmp_path: Path) -> None:
    data = str(built / "jpeg" / "data")
    check(datasets.load_dataset("imagefolder", data_dir=data, cache_dir=str(tmp_path)), built / "jpeg")


@pytest.mark.parametrize("data_format", ["parquet", "jpeg"])
def test_pandas_reads_the_manifest(built: Path, data_format: str) -> None:
    rows = pd.read_parquet(built / data_format / "manifest")
    assert len(rows) == 60
    assert str(rows["timestamp"].dt.tz) == "UTC"
    assert rows.loc[rows["status"] == "ok", "luma"].between(0, 255).all()
    assert rows.loc[rows["status"] != "ok", "reason"].notna().all()


def test_duckdb_joins_manifest_and_data(built: Path) -> None:
    path = built / "parquet"
    joined = (
        duckdb.connect()
        .execute(
            f"SELECT count(*), min(octet_length(d.image.bytes)) FROM '{path}/manifest/*.parquet' m "
            f"JOIN '{path}/data/*.parquet' d USING (frame_id) "
            "WHERE m.status = 'ok' AND m.sha256 = sha256(d.image.bytes)"
        )
        .fetchone()
    )
    assert joined is not None
    assert joined[0] == sum(counts(path).values())
    assert joined[1] > 1000


def sha256_of(image: dict[str, Any]) -> str:
    return hashlib.sha256(image["bytes"]).hexdigest()


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_gives_every_one_of_a_thousand_frames_once(
    thousand: Path, tmp_path: Path, streaming: bool
) -> None:
    loaded = datasets.load_dataset(str(thousand), cache_dir=str(tmp_path), streaming=streaming)
    seen: dict[str, str] = {}
    for split, part in loaded.items():
        for row in part.cast_column("image", datasets.Image(decode=False)):
            assert row["split"] == split
            assert row["frame_id"] not in seen
            seen[row["frame_id"]] = sha256_of(row["image"])
    expected = rhombus_dataset.open_dataset(thousand).to_pandas()
    assert seen == dict(zip(expected["frame_id"], expected["sha256"], strict=True))


def test_duckdb_finds_every_one_of_a_thousand_frames(thousand: Path) -> None:
    counted = duckdb.connect().execute(
        "SELECT m.camera_name, m.view, count(*), count(DISTINCT m.frame_id) "
        f"FROM '{thousand}/manifest/*.parquet' m "
        f"JOIN '{thousand}/data/*.parquet' d USING (frame_id) "
        "WHERE m.sha256 = sha256(d.image.bytes) GROUP BY ALL"
    )
    rows = rhombus_dataset.open_dataset(thousand).to_pandas()
    expected = rows.groupby(["camera_name", "view"]).size()
    assert {(camera, view): n for camera, view, n, _ in counted.fetchall()} == expected.to_dict()


def croissant(path: Path, caplog: pytest.LogCaptureFixture) -> Any:
    with caplog.at_level("WARNING"):
        opened = mlcroissant.Dataset(path / "croissant.json")
    assert not opened.metadata.issues.errors
    # mlcroissant accepts files without required fields, so they are checked here. The publisher and the date are
    # not known to the package.
    described = json.loads((path / "croissant.json").read_text())
    for name in ("@context", "name", "description", "url", "license", "distribution", "recordSet"):
        assert described[name], name
    assert described["@type"] == "sc:Dataset"
    assert described["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    return opened


def test_mlcroissant_validates_and_reads_a_thousand_frames(
    thousand: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened = croissant(thousand, caplog)
    dataset = rhombus_dataset.open_dataset(thousand)
    expected = {frame.frame_id: frame for frame in dataset}
    for record in opened.records("frames"):
        frame = expected.pop(record["frames/frame_id"].decode())
        fields = {name.removeprefix("frames/"): value for name, value in record.items()}
        assert fields.pop("image").size == (frame.width_px, frame.height_px)
        row = frame.to_dict()
        assert {n: v.decode() if isinstance(v, bytes) else v for n, v in fields.items()} == {
            n: row[n] for n in fields
        }
    assert not expected
    for file in json.loads((thousand / "croissant.json").read_text())["distribution"]:
        if file["@type"] == "cr:FileObject":
            content = (thousand / file["contentUrl"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == file["sha256"]
            assert file["contentSize"] == f"{len(content)} B"


def test_mlcroissant_reads_the_jpeg_format(built: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened = croissant(built / "jpeg", caplog)
    names = {record["frames/file_name"] for record in opened.records("frames")}
    images = {record["pictures_by_name/file_name"]: record for record in opened.records("pictures_by_name")}
    assert names == images.keys()
    assert len(names) == sum(counts(built / "jpeg").values())
