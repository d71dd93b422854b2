"""The example plans and the notebooks are run. The pages of the documentation are tested in tests/docs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbclient
import nbformat
import pytest

import rhombus_dataset
from rhombus_dataset.api import info, verify
from rhombus_dataset.plan.loader import load_plan
from tests.conftest import CONFIGS, NOW_MS, ROOT

PLANS = sorted(path.name for path in CONFIGS.glob("*.yaml") if "site" not in path.name)

# If a digest changes, existing datasets of such a plan can no longer be continued.
GOLDEN = json.loads((Path(__file__).parent / "golden_digests.json").read_text())


SCOUTS = ["scout.yaml"]
"""Plans whose frames are known after their scout pass: their digests are compared when they are built."""


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


def test_exports_are_all() -> None:
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
        # Other tests run beside it: threads of PyTorch that wait for a core keep the other ones busy.
        cell.source = cell.source.replace("set_num_threads(2)", "set_num_threads(1)")
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    shown = [kind for cell in code for output in cell.outputs for kind in output.get("data", {})]
    assert "image/png" in shown
    assert "text/html" in shown
    assert not [output for cell in code for output in cell.outputs if output.get("name") == "stderr"]


def test_the_documentation_names_every_notebook() -> None:
    text = (ROOT / "docs" / "pages" / "getting-started.md").read_text()
    assert re.findall(r"`notebooks/(\w+)\.ipynb`", text) == ["quickstart", "explore", "train"]
    assert NOTEBOOKS == ["explore", "quickstart", "train"]
