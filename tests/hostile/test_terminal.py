"""Codes for a terminal in a dataset of somebody else are shown as text."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rhombus_dataset.errors import printable
from rhombus_dataset.store import manifest
from tests.conftest import ROOT

CODES = "\x1b[31m\x1b]0;title\x07\x08\x9b2J\r"


@pytest.mark.parametrize("command", [["info"], ["info", "--json"], ["verify"], ["verify", "--json"]])
def test_no_control_character_reaches_the_terminal(tmp_path: Path, command: list[str]) -> None:
    dataset = Path(shutil.copytree(ROOT / "tests" / "golden" / "dataset", tmp_path / "dataset"))
    path = manifest.slice_paths(dataset)[0]
    table = pq.read_table(path, partitioning=None)
    for column in ("reason", "camera_name", "view", "mime_type", "warning"):
        values = [None if value is None else f"{value}{CODES}" for value in table.column(column).to_pylist()]
        table = table.set_column(table.schema.get_field_index(column), column, pa.array(values, pa.string()))
    manifest.write_slice(path, table.replace_schema_metadata(None), manifest.read_header(path))
    done = subprocess.run(
        [sys.executable, "-m", "rhombus_dataset", command[0], str(dataset), *command[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    output = done.stdout + done.stderr
    assert "Traceback" not in output
    assert not [c for c in output if not c.isprintable() and c not in "\n\t"]
    if command[0] == "info":
        assert "[31m" in output, "shown as text"


def test_what_is_printable_stays_as_it_is() -> None:
    assert printable("dock-north 12:00\n\té 日本 🎥") == "dock-north 12:00\n\té 日本 🎥"
    assert printable("a\x1bb\rc\x9b") == "a\\x1bb\\rc\\x9b"
