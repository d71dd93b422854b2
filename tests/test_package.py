"""What is installed: the wheel and the source archive hold what they should, and the command runs from them."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the wheel and the source archive."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return folder


def tracked(*patterns: str) -> set[str]:
    """The committed files of these patterns, and new ones that git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    return {name for name in listed if (ROOT / name).exists()}


def test_the_wheel_holds_the_package_and_the_example_plans(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    configs = {f"rhombus_dataset/{name}" for name in tracked("configs")}
    assert names == tracked("rhombus_dataset") | configs
    assert {"rhombus_dataset/py.typed", "rhombus_dataset/html/templates/report.html.j2"} <= names


def test_the_source_archive_holds_what_is_needed_to_build_and_to_test(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert tracked("rhombus_dataset", "configs", "tests", "docs", "notebooks", "scripts", "*.md") <= names
    assert "pyproject.toml" in names


@pytest.mark.parametrize("arguments", [["--version"], ["demo", "--help"]])
def test_the_command_runs_from_the_wheel(built: Path, tmp_path: Path, arguments: list[str]) -> None:
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "rhombus_dataset", *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "rhombus-dataset" in done.stdout


def test_types_reach_those_who_install_it(built: Path, tmp_path: Path) -> None:
    """A type checker uses an installed package's types only if it finds `py.typed`."""
    (wheel,) = built.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    zipfile.ZipFile(wheel).extractall(packages)
    (tmp_path / "user.py").write_text("import rhombus_dataset\n\nreveal_type(rhombus_dataset.open_dataset)\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", str(tmp_path / "venv/bin/python"), "user.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "-> rhombus_dataset.dataset.collection.Dataset" in done.stdout, done.stdout


HEAVY = ("cv2", "numpy", "pandas", "pyarrow", "pydantic", "requests", "yaml")


@pytest.mark.parametrize(
    ("program", "allowed"),
    [
        ("import rhombus_dataset", ()),
        ("import rhombus_dataset; dir(rhombus_dataset)", ()),
        ("import rhombus_dataset.cli", ()),
        (
            "import rhombus_dataset; rhombus_dataset.validate(sys.argv[1])",
            ("numpy", "orjson", "pydantic", "yaml"),
        ),
    ],
)
def test_what_is_not_used_is_not_imported(program: str, allowed: tuple[str, ...]) -> None:
    """All of it together takes a second, which `--help` would take too."""
    found = subprocess.run(
        [sys.executable, "-c", f"import sys; {program}; print(*sys.modules)", "configs/demo.yaml"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert set(HEAVY) & set(found) <= set(allowed)


def test_the_public_names_and_nothing_else() -> None:
    import rhombus_dataset

    assert dir(rhombus_dataset) == sorted(rhombus_dataset.__all__)
    for name in rhombus_dataset.__all__:
        assert getattr(rhombus_dataset, name).__module__.startswith("rhombus_dataset.")
    with pytest.raises(AttributeError, match="no attribute 'pd'"):
        rhombus_dataset.pd  # noqa: B018
