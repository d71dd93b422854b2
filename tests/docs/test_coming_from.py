"""Every line of the page "Coming from …" runs, and gives the same as the line beside it where both can run here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
import torch.utils.data

import rhombus_dataset
from rhombus_dataset.dataset import Dataset
from rhombus_dataset.pytorch import FrameDataset
from tests.docs.pages import PAGES

ROW = re.compile(r"^\| `(.+)` \| `(.+)` \|$", re.M)
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", (PAGES / "coming-from.md").read_text(), re.M | re.S))
LINES = [(title, *row) for title, text in SECTIONS.items() for row in ROW.findall(text)]
OTHER_ORDER = ("sample(", "shuffle(", "concatenate_datasets", ".map(")
"""Random orders differ, and results have another shape."""


@pytest.fixture(scope="module")
def names(thousand: Path) -> Iterator[dict[str, Any]]:
    dataset = rhombus_dataset.open_dataset(thousand)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(thousand.parent)
        yield {
            "dataset": dataset,
            "frame": dataset[0],
            "frame_id": dataset[0].frame_id,
            "df": dataset.to_pandas(),
            "ds": datasets.load_dataset(str(thousand), split="train"),
            "transform": np.asarray,
            "DataLoader": torch.utils.data.DataLoader,
            "FrameDataset": FrameDataset,
            "concatenate_datasets": datasets.concatenate_datasets,
        }


def plain(value: Any) -> Any:
    """The frames of a result, or its values, to compare."""
    if isinstance(value, Dataset):
        return list(value["frame_id"])
    if isinstance(value, pd.DataFrame | datasets.Dataset):
        return list(value["frame_id"])
    if isinstance(value, rhombus_dataset.Frame):
        return value.frame_id
    if (isinstance(value, pd.Series) and "frame_id" in value.index) or (
        isinstance(value, dict) and "frame_id" in value
    ):
        return value["frame_id"]
    if isinstance(value, pd.Series):
        return value.to_dict() if value.index.dtype == object else value.tolist()
    if isinstance(value, list) and isinstance(value[0], dict):
        return [row["frame_id"] for row in value]
    return value if isinstance(value, int | str | float) else np.asarray(value).tolist()


def test_the_page_has_lines_of_all() -> None:
    assert {title for title, *_ in LINES} == {"pandas", "Hugging Face datasets", "PyTorch", "FiftyOne"}
    assert len(LINES) > 40


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize(("title", "there", "here"), LINES, ids=[f"{title}-{here}" for title, _, here in LINES])
def test_the_line_runs(names: dict[str, Any], title: str, there: str, here: str) -> None:
    found = eval(here, names)
    if "DataLoader" in here:
        batch = next(iter(found))
        assert len(batch) > 0
    if title not in ("pandas", "Hugging Face datasets"):
        return
    expected = eval(there, names)
    if title != "pandas" and 'dataset["train"]' not in here:
        found = eval(
            here.replace("dataset.", 'dataset["train"].').replace("len(dataset)", 'len(dataset["train"])'), names
        )
    if there in ("df.dtypes", "ds.features"):
        assert len(found) > 20
    elif there == "ds.column_names":  # the data has no rows of other statuses, and so no columns about them
        assert set(expected) - {"image"} <= set(found)
    elif there == 'ds[0]["image"]':
        assert np.array_equal(np.asarray(expected), np.asarray(found))
    elif ".sort" in here:  # in another order where values are equal
        assert list(found["luma"]) == list(expected["luma"])
    elif not any(text in there for text in OTHER_ORDER):
        assert plain(found) == plain(expected)
