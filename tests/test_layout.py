"""Each module imports only what stands above it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "rhombus_dataset"

LAYERS = [
    # vocabulary
    ["errors", "geometry", "frame", "wire", "marked_yaml", "checking"],
    # pure
    [
        "hashing",
        "plan",
        "schema",
        "local_time",
        "timestamps_file",
        "lock",
        "splits",
        "schedule",
        "sampler",
        "scout_pass",
    ],
    # one effect
    ["storage", "images", "credentials", "decode", "quota", "sources"],
    # unit
    ["journal", "manifest", "erasures", "fetch", "writer", "holdings", "settle", "annotations", "top_up"],
    # whole
    ["engines", "build", "erase", "repair"],
    # consumers
    [
        "markup",
        "dataset",
        "near_duplicates",
        "novelty",
        "deployments",
        "selection",
        "looking",
        "scouting",
        "croissant",
        "exports",
        "labels",
        "plots",
        "report_page",
        "import_labels",
        "pytorch",
        "summary",
        "contact_sheet",
        "info",
        "shortfalls",
        "card",
        "verify",
    ],
    # faces
    ["progress", "server", "api", "demo", "cli", "__init__"],
]
BUILDING = {
    "sources",
    "quota",
    "journal",
    "fetch",
    "writer",
    "engines",
    "build",
    "erase",
    "repair",
    "settle",
    "credentials",
}
CONSUMERS = set(LAYERS[5])
VOCABULARY = set(LAYERS[0])
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
OWN_PLACE = {
    # foreign library: the only modules that may import it
    "requests": {"sources.rhombus", "sources.http_pool"},
    "urllib3": {"sources.rhombus", "sources.http_pool"},
    "av": {"sources.recordings.footage", "sources.recordings.video_index"},
    "fastapi": {"server"},
    "uvicorn": {"server"},
    "click": {"cli", "demo"},
    "torch": {"pytorch"},
    "matplotlib": {"plots"},
    "jinja2": {"markup"},
    "tqdm": {"progress"},
    "yaml": {"marked_yaml", "card", "exports.yolo", "labels.yolo"},
    "simplejpeg": {"decode", "sources.recordings.render"},
}


def modules() -> list[str]:
    return sorted(
        path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        for path in PACKAGE.rglob("*.py")
    )


def imports(module: str) -> set[str]:
    path = PACKAGE / Path(*module.split("."))
    source = (path / "__init__.py") if path.is_dir() else path.with_suffix(".py")
    found: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import hides its layer"
            if node.module == "rhombus_dataset":
                found |= {f"rhombus_dataset.{alias.name}" for alias in node.names}
            else:
                found.add(node.module or "")
    return found


def rooms(module: str) -> set[str]:
    return {name.split(".")[1] for name in imports(module) if name.startswith("rhombus_dataset.")}


def test_every_module_has_its_layer() -> None:
    assert {module.split(".")[0] for module in modules()} <= set(LEVEL)


@pytest.mark.parametrize("module", modules())
def test_imports_climb_one_way(module: str) -> None:
    room = module.split(".")[0]
    for other in rooms(module) - {room}:
        assert LEVEL[other] <= LEVEL[room], f"{module} imports {other}, which stands below it"


@pytest.mark.parametrize("module", [m for m in modules() if m.split(".")[0] in CONSUMERS])
def test_consumers_never_import_the_building_side(module: str) -> None:
    assert not rooms(module) & BUILDING


@pytest.mark.parametrize("module", [m for m in modules() if m.split(".")[0] in BUILDING | {"build"}])
def test_the_building_side_never_imports_consumers(module: str) -> None:
    assert not rooms(module) & CONSUMERS


def test_the_server_and_the_http_source_share_only_the_vocabulary() -> None:
    assert rooms("sources.rhombus") <= VOCABULARY | {"sources"}
    for module in modules():
        if module.split(".")[0] == "server" or module.startswith("sources.recordings"):
            assert "rhombus_dataset.sources.rhombus" not in imports(module)


@pytest.mark.parametrize("module", modules())
def test_each_foreign_library_has_its_own_place(module: str) -> None:
    for library, places in OWN_PLACE.items():
        if any(name.split(".")[0] == library for name in imports(module)):
            assert any(module == place or module.startswith(place + ".") for place in places), library


def test_the_base_package_imports_without_the_extras() -> None:
    """And nothing that only an extra brings is imported by importing the package."""
    code = (
        "import sys, rhombus_dataset, rhombus_dataset.cli, rhombus_dataset.api\n"
        "print([m for m in ('fastapi', 'uvicorn', 'av', 'matplotlib', 'datasets', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
