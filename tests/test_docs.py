"""Docs are run: every plan of configs/, the README's plan and Python, the notebook."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

import rhombus_dataset
from rhombus_dataset.exports.formats import FORMATS
from rhombus_dataset.plan.loader import load_plan
from rhombus_dataset.quality.summary import info
from rhombus_dataset.quality.verification import verify
from rhombus_dataset.sources.recordings.site import FAULT_KINDS
from tests.conftest import CONFIGS, NOW_MS, ROOT

PLANS = sorted(path.name for path in CONFIGS.glob("*.yaml") if "site" not in path.name)
README = (ROOT / "README.md").read_text()

# A digest that changes means that every dataset in the world built from such a plan is another one.
GOLDEN = json.loads((Path(__file__).parent / "golden_digests.json").read_text())


SCOUTS = ["scout.yaml"]
"""Their frames are known once they have looked: their digests are compared when they are built."""


@pytest.mark.parametrize("name", [name for name in PLANS if name not in SCOUTS])
def test_promise_1_each_config_has_its_golden_digest(name: str) -> None:
    assert rhombus_dataset.schedule_of(CONFIGS / name).digest == GOLDEN[name]


@pytest.mark.parametrize("name", [name for name in PLANS if name != "demo.yaml"])
def test_each_config_builds(name: str, tmp_path: Path, demo_url: str) -> None:
    url = None if name == "recordings.yaml" else demo_url
    outcome = rhombus_dataset.build(CONFIGS / name, tmp_path / "out", url=url)
    assert outcome.complete
    assert outcome.counts.get("ok", 0) > 0  # type: ignore[call-overload]
    assert info(tmp_path / "out").digest == GOLDEN[name]
    assert verify(tmp_path / "out").problems == ()


def test_every_strategy_has_a_config() -> None:
    strategies = {load_plan(CONFIGS / name, NOW_MS).sampling.strategy for name in PLANS}
    assert strategies == {"interval", "random", "stratified", "burst", "timestamps", "scout"}


def test_the_readmes_plan_is_valid(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(version: 1.*?)```", README, re.DOTALL)
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    assert len(rhombus_dataset.schedule_of(path)) == 4000


def test_the_readme_names_every_column_command_and_file() -> None:
    from rhombus_dataset.cli import main
    from rhombus_dataset.store.schema import CHOICE, DEPLOYMENT, data_schema, manifest_schema

    for name in {*data_schema().names, *manifest_schema([DEPLOYMENT, *CHOICE]).names}:
        assert f"`{name}`" in README, name
    for command in main.commands:
        assert f"rhombus-dataset {command}" in README, command
    for kind in FAULT_KINDS:
        assert kind.isupper() or f"`{kind}`" in README, kind
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_readmes_python_runs(thousand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(thousand, tmp_path / "loading-dock")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for text in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(text, "README.md", "exec"), names)
    assert len(names["doors"]) > 100
    assert len(list(names["loader"])) > 10
    assert len(names["train"]) == len(names["dataset"].split("train"))


def test_the_readme_names_every_export() -> None:
    for to in FORMATS:
        assert f"| `{to}` |" in README, to


def test_exports_are_all() -> None:
    public = {name for name in vars(rhombus_dataset) if not name.startswith("_")}
    assert set(rhombus_dataset.__all__) <= public
    for name in rhombus_dataset.__all__:
        assert getattr(rhombus_dataset, name).__doc__


NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_each_notebook_runs_and_shows_something(name: str, tmp_path: Path) -> None:
    path = ROOT / "notebooks" / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in code), "outputs are not committed"
    for cell in code:
        cell.source = cell.source.replace("../configs", str(CONFIGS))
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    shown = [kind for cell in code for output in cell.outputs for kind in output.get("data", {})]
    assert "image/png" in shown
    assert "text/html" in shown
    assert not [output for cell in code for output in cell.outputs if output.get("name") == "stderr"]


def test_there_are_the_notebooks_that_the_readme_names() -> None:
    assert NOTEBOOKS == ["explore", "quickstart", "train"]
