"""The documentation site: it builds without a warning, needs no network, and names everything that there is."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import rhombus_dataset
from rhombus_dataset.cli import main
from rhombus_dataset.cli.group import leaf_commands
from rhombus_dataset.dataset import DUPLICATES
from rhombus_dataset.exports.formats import FORMATS
from rhombus_dataset.frame import Status
from rhombus_dataset.plan.template import plan_json_schema
from rhombus_dataset.sources.recordings import site as site_file
from rhombus_dataset.sources.recordings.site import FAULT_KINDS
from rhombus_dataset.store import layout
from rhombus_dataset.store.annotations import SCHEMA
from rhombus_dataset.store.schema import CHOICE, DEPLOYMENT, data_schema, manifest_schema
from tests.conftest import CONFIGS, ROOT
from tests.docs.pages import PAGES, SOURCES


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", "docs/mkdocs.yml"]
    done = subprocess.run(
        [*command, "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    return folder


def codes(site: Path, page: str) -> set[str]:
    """Return the words that a page shows as code."""
    return {html.unescape(code) for code in re.findall(r"<code>([^<]+)</code>", text_of(site, page))}


def text_of(site: Path, page: str) -> str:
    return (site / f"{page}.html").read_text()


def test_every_page_is_built(site: Path) -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == {path.stem for path in site.glob("*.html")} - {"404"}


def test_viewing_needs_no_network(site: Path) -> None:
    for path in site.rglob("*.html"):
        loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=\"([^\"]+)\"", path.read_text())
        assert loaded
        assert not [target for target in loaded if re.match(r"(https?:)?//", target)], path


def test_links_from_outside_the_site_lead_somewhere() -> None:
    for path in SOURCES:
        if path.parent == ROOT:
            for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
                assert (ROOT / target).exists(), f"{path.name}: {target}"


def test_every_key_of_a_plan_is_described(site: Path) -> None:
    page = text_of(site, "plan-reference")
    schema = plan_json_schema()
    types = {"Plan": schema, **schema["$defs"]}
    for name, model in types.items():
        section = page.split(f'id="{name.lower()}"')[1].split("<h2")[0]
        assert len(model["description"]) > 10
        for key, field in model["properties"].items():
            assert f"<td><code>{key}</code></td>" in section, f"{name}.{key}"
            meaning = field.get("description") or types[field["$ref"].removeprefix("#/$defs/")]["description"]
            assert len(meaning) > 3, f"{name}.{key}"
            first = html.escape(meaning.split("`")[0].split(".")[0], quote=False)
            assert first in section, f"{name}.{key}"
        assert section.count("<tr>") == len(model["properties"]) + 1


def test_every_example_of_a_key_is_valid() -> None:
    """By the JSON Schema of its field."""
    import jsonschema

    schema = plan_json_schema()
    for name, model in {"Plan": schema, **schema["$defs"]}.items():
        for key, field in model["properties"].items():
            validator = jsonschema.Draft202012Validator({**field, "$defs": schema["$defs"]})
            for example in field.get("examples", []):
                assert validator.is_valid(example), f"{name}.{key}: {example}"
            if field.get("default") is not None:
                assert validator.is_valid(field["default"]), f"{name}.{key}: {field['default']}"


def test_every_command_and_option_is_described(site: Path) -> None:
    page = text_of(site, "command-line")
    for name, command in leaf_commands().items():
        section = page.split(f'<h2 id="{name.replace(" ", "-")}"')[1].split("<h2")[0]
        assert command.help
        assert not command.get_short_help_str(60).endswith("..."), f"{name}: its first sentence is too long"
        assert html.escape(" ".join(command.help.split("\n\n")[0].split()), quote=False) in section
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help
                for option in parameter.opts:
                    assert f"<code>{option}</code>" in section, f"{name} {option}"


def test_every_public_name_is_described(site: Path) -> None:
    page = text_of(site, "python-api")
    for name in rhombus_dataset.__all__:
        assert re.search(rf'id="rhombus_dataset\.{name}"', page), name
    for name in ("api.BuildOutcome", "frame.Frame", "dataset.Frame.camera_name"):
        assert f'.{name.split(".", 1)[1]}"' in page, name
    for name in ("pytorch.FrameDataset", "pytorch.FrameStream", "plots.plot_images", "errors.UsageError"):
        assert f'id="rhombus_dataset.{name}"' in page, name
    assert ":class:" not in page
    assert ":func:" not in page
    assert ":meth:" not in page


def test_every_column_and_status_is_described(site: Path) -> None:
    names = {*data_schema().names, *manifest_schema([DEPLOYMENT, *CHOICE]).names, *SCHEMA.names, *DUPLICATES.names}
    assert names <= codes(site, "dataset-format")
    assert set(map(str, Status)) <= codes(site, "dataset-format")


def test_every_file_of_a_dataset_is_described(site: Path) -> None:
    page = text_of(site, "dataset-format")
    for name, value in vars(layout).items():
        if name.isupper() and isinstance(value, str) and not name.startswith(("REWRITE", "READY", "JOURNAL")):
            assert value.split("/")[-1] in page or name in ("BUILD_LOCK_FILE", "SKIPPED_LABELS_SUFFIX"), name


def test_every_fault_is_described(site: Path) -> None:
    assert set(FAULT_KINDS) <= codes(site, "server")


def test_every_key_of_a_site_file_is_described(site: Path) -> None:
    for model in ("_SiteFile", "SiteLocation", "_Camera", "_Video", "_Scene", "SiteQuota", "InjectedFault"):
        for key in getattr(site_file, model).model_fields:
            assert re.search(rf"<code>[^<]*\b{key}\b", text_of(site, "server")), f"{model}.{key}"


def test_every_export_is_described(site: Path) -> None:
    assert set(FORMATS) <= codes(site, "labels-and-exports")
    (to,) = [option for option in main.commands["export"].params if option.name == "to"]
    assert isinstance(to, click.Option)
    assert set(FORMATS) <= set(re.findall(r"[\w-]+", to.help or ""))


def test_every_strategy_and_its_plan_are_named(site: Path) -> None:
    page = text_of(site, "choosing-frames")
    for option in plan_json_schema()["properties"]["sampling"]["oneOf"]:
        model = plan_json_schema()["$defs"][option["$ref"].removeprefix("#/$defs/")]
        strategy = model["properties"]["strategy"]["const"]
        assert f"<td><code>{strategy}</code></td>" in page
        assert f"<code>configs/{strategy}.yaml</code>" in page
        assert (CONFIGS / f"{strategy}.yaml").exists()


def test_the_tests_that_the_pages_name_exist() -> None:
    code = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = [name for path in SOURCES for name in re.findall(r"`(test_promise_\w+)`", path.read_text())]
    assert named
    for name in named:
        assert f"def {name}(" in code


def test_the_references_are_generated() -> None:
    """No page repeats by hand what another one generates."""
    for page, marker in (
        ("plan-reference", "plan_reference"),
        ("command-line", "command_reference"),
        ("python-api", "python_reference"),
        ("server", "api_statuses"),
    ):
        assert f"<!-- generated: {marker} -->" in (PAGES / f"{page}.md").read_text()


def test_the_images_are_small() -> None:
    images = [path for path in (PAGES / "images").iterdir() if path.is_file()]
    assert len(images) == 2
    assert sum(path.stat().st_size for path in images) < 300_000


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
