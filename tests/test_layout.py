"""The layout is as docs/pages/architecture.md shows it: ranks, and the third-party libraries of each folder."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator

from tests.conftest import ROOT

PACKAGE = ROOT / "rhombus_dataset"
TABLE = re.findall(r"^\| (\d+) \| `(\w+)` \|.*\| (.*) \|$", (ROOT / "docs/pages/architecture.md").read_text(), re.M)
RANK = {folder: int(rank) for rank, folder, _ in TABLE}
LIBRARIES = {folder: set(re.findall(r"`(\w+)`", libraries)) for _, folder, libraries in TABLE}
EVERYWHERE = {"numpy", "pandas", "pyarrow", *sys.stdlib_module_names}


def imports() -> Iterator[tuple[str, str]]:
    """Each file of the package, relative to it, with each module that it imports."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                names = [alias.name for alias in node.names] if node.module == "rhombus_dataset" else [""]
                yield from ((str(path.relative_to(PACKAGE)), f"{node.module}.{name}".strip(".")) for name in names)
            elif isinstance(node, ast.Import):
                yield from ((str(path.relative_to(PACKAGE)), alias.name) for alias in node.names)


def test_imports_climb_the_ranks_and_libraries_stay_in_their_folder() -> None:
    assert {path.split("/")[0].removesuffix(".py") for path, _ in imports()} == set(RANK)
    for path, module in imports():
        folder, (top, _, inner) = path.split("/")[0].removesuffix(".py"), module.partition(".")
        target = inner.split(".")[0]
        if top != "rhombus_dataset":
            assert top in EVERYWHERE | LIBRARIES[folder], f"{path} imports {top}"
        elif target != folder and not RANK[target] == RANK[folder] == 1:  # the vocabulary is one folder
            assert RANK[target] < RANK[folder], f"{path} imports {target}, which is not below it"


def test_consumers_of_a_dataset_never_import_the_building_side() -> None:
    building = ("rhombus_dataset.building", "rhombus_dataset.sources", "rhombus_dataset.store.journal")
    consumers = ("dataset", "plots", "pytorch", "cards", "exports", "labels", "quality", "reports")
    for path, module in imports():
        assert not (path.startswith(consumers) and module.startswith(building)), f"{path} imports {module}"


def test_the_server_and_the_http_source_share_only_the_vocabulary() -> None:
    for path, module in imports():
        if path.startswith("sources/rhombus/"):
            inner = module.removeprefix("rhombus_dataset.").split(".")[0]
            assert RANK.get(inner, 1) == 1 or module.startswith("rhombus_dataset.sources"), f"{path}: {module}"
            assert "recordings" not in module, path
        if path.startswith(("server/", "sources/recordings/")):
            assert not module.startswith("rhombus_dataset.sources.rhombus"), path


def test_the_house_stays_small() -> None:
    """Few entries at the top, no long module, no long list of parameters."""
    entries = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 30
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                count = len([a for a in arguments if a.arg not in ("self", "cls")])
                assert count <= 8, f"{path}: {node.name} takes {count}"


def test_only_the_store_changes_files_of_a_dataset() -> None:
    """Exports write into a staged folder that the store made for them."""
    calls = {"write_bytes", "write_text", "mkdir", "unlink", "rmdir", "touch", "symlink_to", "rmtree"}
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] not in ("store", "exports"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    name, text = node.func.attr, ast.unparse(node)
                    is_write = name in calls or text.startswith(("os.replace(", "os.rename(", "os.remove("))
                    is_table = name == "write_table" and not text.startswith("tables.")
                    assert not is_write, f"{path}: {text}"
                    assert not is_table, f"{path}: {text}"


def test_no_public_function_has_the_name_of_a_module() -> None:
    public = ast.literal_eval(re.findall(r"__all__ = (\[.*?\])", (PACKAGE / "__init__.py").read_text(), re.S)[0])
    assert not set(public) & {path.stem for path in PACKAGE.iterdir()}


def test_opencv_is_set_up_only_in_imaging() -> None:
    calls = [path for path in PACKAGE.rglob("*.py") if "setNumThreads" in path.read_text()]
    assert calls == [PACKAGE / "imaging" / "threads.py"]


def test_the_base_package_imports_without_the_extras() -> None:
    """And nothing that only an extra brings is imported by importing the package."""
    code = (
        "import sys, rhombus_dataset, rhombus_dataset.cli, rhombus_dataset.api\n"
        "print([m for m in ('fastapi', 'uvicorn', 'av', 'matplotlib', 'datasets', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
