"""Conditions given to `Dataset.filter` and to `export --where`: they select rows or are refused."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import rhombus_dataset
from rhombus_dataset.dataset import Dataset
from rhombus_dataset.errors import UsageError
from rhombus_dataset.store.row_filter import matching_rows
from tests.conftest import ROOT

CODE = [
    "@os.system('touch hacked') == 0",
    "@pd.io.common.os.system('touch hacked') == 0",
    "luma.to_csv('hacked') == 0",
    "split.to_pickle('hacked') == 0",
    "luma > 3 or luma.to_csv('hacked') is None",
]


def documented() -> list[str]:
    """The conditions in the README, the pages, the notebooks and the tests of the command line."""
    found: set[str] = set()
    for file in [ROOT / "README.md", *(ROOT / "docs/pages").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]:
        text = file.read_text()
        if file.suffix == ".ipynb":
            text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
        found.update(re.findall(r'(?:filter\(|--where )"([^"\n…]+)"', text))
    return sorted(found)


@pytest.fixture(scope="module")
def dataset(thousand: Path) -> Dataset:
    return rhombus_dataset.open_dataset(thousand)


def test_there_are_documented_conditions() -> None:
    assert len(documented()) >= 8


@pytest.mark.parametrize("condition", documented())
def test_a_documented_condition_gives_the_rows_of_pandas(dataset: Dataset, condition: str) -> None:
    table = dataset.manifest  # with rows that have no image, and so no measures
    if "score" not in table.column_names:
        table = table.append_column("score", table.column("luma"))
    frame: pd.DataFrame = table.to_pandas()
    assert frame["luma"].isna().any()
    expected = frame.query(condition).index.tolist()
    assert np.flatnonzero(np.asarray(matching_rows(table, condition))).tolist() == expected


@pytest.mark.parametrize("condition", CODE)
def test_promise_11_filter_runs_nothing(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, condition: str
) -> None:
    monkeypatch.chdir(tmp_path)
    os.system  # noqa: B018 - `@os` is found here by whatever evaluates the text in the caller's frame
    with pytest.raises(UsageError):
        dataset.filter(condition)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("@os.system('touch hacked') == 0", "@ does not stand for a variable"),
        ("luma.to_csv('hacked') == 0", "is not allowed"),
        ("lum > 3", "no column lum; did you mean luma?"),
        ("luma = 3", "use == to compare"),
        ("luma > '3'", "cannot be compared"),
        ("status == 'missing'", "opens frames of status ok"),
        ("view == '\\ud800'", "not valid Unicode"),
    ],
)
def test_promise_11_the_command_refuses_it(thousand: Path, tmp_path: Path, condition: str, message: str) -> None:
    command = [sys.executable, "-m", "rhombus_dataset", "export", str(thousand), "--to", "coco", "--out", "out"]
    done = subprocess.run(
        [*command, "--where", condition],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(rhombus_dataset.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
