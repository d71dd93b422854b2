"""The examples of the documentation: Python is run, YAML is validated, commands are parsed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

import rhombus_dataset
from rhombus_dataset.cli.group import leaf_commands
from rhombus_dataset.plan.loader import load_plan
from rhombus_dataset.plan.model import Plan
from rhombus_dataset.sources.recordings.site import load_site
from tests.conftest import NOW_MS, ROOT
from tests.docs.pages import PAGES, SOURCES, blocks, commands
from tests.videos import write_video

BASE_PLAN = {
    "version": "1",
    "name": "example",
    "source": "{type: rhombus}",
    "cameras": """
  - {uuid: AAAAAAAAAAAAAAAAAAAAAA, name: dock-north, timezone: America/Los_Angeles}
  - {uuid: BBBBBBBBBBBBBBBBBBBBBB, name: gate-east, timezone: America/Los_Angeles}""",
    "windows": "[{start: 2026-06-01, end: 2026-07-01}]",
    "sampling": "{strategy: interval, every: 10m}",
}
BASE_SITE = {
    "locations": "[{uuid: BBBBBBBBBBBBBBBBBBBBBB, name: HQ, tz: America/Los_Angeles}]",
    "cameras": "[{uuid: AAAAAAAAAAAAAAAAAAAAAA, name: dock-north, location: HQ, recordings: []}]",
}


def with_blocks(language: str) -> list[Path]:
    return [path for path in SOURCES if path.name != "CONTRIBUTING.md" and blocks(path, language)]


@pytest.fixture
def folder(thousand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with `plan.yaml` and its dataset `loading-dock`."""
    shutil.copytree(thousand, tmp_path / "loading-dock")
    for name in ("plan.yaml", "site.yaml"):
        shutil.copy(thousand.parent / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("path", with_blocks("python"), ids=lambda path: path.stem)
def test_python_runs(path: Path, folder: Path) -> None:
    names: dict[str, Any] = {}
    for text in blocks(path, "python"):
        exec(compile(text, path.name, "exec"), names)
    if path.stem == "README":
        assert names["image"].ndim == 3
    if path.stem == "reading":
        assert len(names["doors"]) > 100
        assert len(list(names["loader"])) > 10
        assert len(names["train"]) == len(names["dataset"]["train"])
        assert (folder / "coverage.png").stat().st_size > 1000
    if path.stem == "getting-started":
        assert names["outcome"].complete
    if path.stem == "labels-and-exports":
        assert (folder / "coco-doors").is_dir()


def test_the_pages_have_python_examples() -> None:
    found = {path.stem for path in with_blocks("python")}
    assert {"README", "getting-started", "reading", "labels-and-exports"} <= found


@pytest.mark.parametrize("path", with_blocks("yaml"), ids=lambda path: path.stem)
def test_yaml_is_valid(path: Path, tmp_path: Path) -> None:
    """A part of a plan or of a site file is put into a plan or a site file."""
    write_video(tmp_path / "dock.mp4", [Fraction(i, 15) for i in range(30)])
    for text in blocks(path, "yaml"):
        given = yaml.load(text, yaml.BaseLoader).keys()
        is_plan = given <= Plan.model_fields.keys()
        base = BASE_PLAN if is_plan else BASE_SITE
        file = tmp_path / ("plan.yaml" if is_plan else "site.yaml")
        file.write_text(text + "".join(f"{key}: {value}\n" for key, value in base.items() if key not in given))
        if not is_plan:
            assert load_site(file).cameras
            continue
        (tmp_path / "site.yaml").touch()
        if load_plan(file, NOW_MS).sampling.strategy != "scout":
            assert len(rhombus_dataset.schedule_of(file)) > 0


def test_the_readmes_plan_has_two_thousand_moments_of_two_views(tmp_path: Path) -> None:
    (text,) = blocks(ROOT / "README.md", "yaml")
    assert text in blocks(PAGES / "getting-started.md", "yaml")
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    assert len(rhombus_dataset.schedule_of(path)) == 4000


def test_commands_can_be_parsed() -> None:
    used = set()
    for path in SOURCES:
        for line in commands(path):
            program, *arguments = shlex.split(line)
            if program.endswith("rhombus-dataset") and arguments:
                name = " ".join(arguments[:2]) if arguments[0] == "site" else arguments[0]
                used.add(name)
                leaf_commands()[name].make_context(name, arguments[len(name.split()) :])
            elif program.startswith("scripts/"):
                assert os.access(ROOT / program, os.X_OK), line
    assert used == leaf_commands().keys() - {"schema", "demo"}, "those are named in the text"
    text = "".join(path.read_text() for path in SOURCES)
    for name in ("schema", "demo"):
        assert f"`rhombus-dataset {name}" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shells_get_their_completion(shell: str) -> None:
    assert f"_RHOMBUS_DATASET_COMPLETE={shell}_source rhombus-dataset" in (PAGES / "command-line.md").read_text()

    def run(instruction: str, **more: str) -> str:
        program = Path(sys.executable).parent / "rhombus-dataset"
        environment = {**os.environ, "_RHOMBUS_DATASET_COMPLETE": f"{shell}_{instruction}", **more}
        return subprocess.run([program], env=environment, capture_output=True, text=True, check=True).stdout

    assert "rhombus-dataset" in run("source")
    word = "bui" if shell == "fish" else "1"
    assert "build" in run("complete", COMP_WORDS="rhombus-dataset bui", COMP_CWORD=word)
