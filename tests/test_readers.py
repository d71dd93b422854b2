"""What was built opens in the tools that people use, as it is."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

import rhombus_dataset
from rhombus_dataset.info import info
from tests.conftest import CONFIGS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its dependencies' own, at import
    import datasets

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
