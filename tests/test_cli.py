"""The command line: what it prints, how it ends, and that no mistake of a user gets a traceback."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rhombus_dataset
from rhombus_dataset.api import verify
from rhombus_dataset.cli import main
from rhombus_dataset.cli.group import leaf_commands
from rhombus_dataset.imaging.jpeg import decode_rgb
from tests.building.test_build import same_for_each_frame, write_plan
from tests.conftest import CONFIGS, ROOT
from tests.scripted_server import scripted_server


def run(*arguments: str | Path, code: int = 0, cwd: Path = ROOT, **environment: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "rhombus_dataset", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, **environment},
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def test_help_names_every_command() -> None:
    out, _ = run("--help")
    for command in sorted(main.commands):
        assert re.search(rf"^  {command} ", out, re.MULTILINE)
    for name in leaf_commands():
        assert run(*name.split(), "--help")[0].startswith("Usage:")
    assert "..." not in out.split("Commands:")[1], "a description is cut"


@pytest.mark.parametrize("name", sorted(leaf_commands()))
def test_each_command_has_an_example_that_can_be_parsed(name: str) -> None:
    command = leaf_commands()[name]
    assert command.epilog is not None
    line = command.epilog.splitlines()[-1].partition(" >")[0].strip()
    assert line.startswith(f"rhombus-dataset {name}")
    arguments = shlex.split(line.removeprefix(f"rhombus-dataset {name}"))
    command.make_context(name, arguments)


def test_from_init_to_validate(tmp_path: Path) -> None:
    out, _ = run("init", "plan.yaml", cwd=tmp_path)
    assert "rhombus-dataset plan plan.yaml" in out
    assert "valid" in run("validate", "plan.yaml", cwd=tmp_path)[0]
    _, errors = run("init", "plan.yaml", cwd=tmp_path, code=2)
    assert "exists already" in errors


def test_validate_lists_every_mistake_and_ends_with_2(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("version: 2\nnam: x\n")
    _, errors = run("validate", path, code=2)
    assert f"{path}:1:1: version: expected 1" in errors
    assert f"{path}:2:1: nam: unknown field 'nam'; did you mean name?" in errors
    found: dict[str, Any] = json.loads(run("validate", path, "--json", code=2)[0])
    assert found["valid"] is False
    assert {"file", "line", "column", "field", "message"} == set(found["problems"][0])


def test_plan_is_a_dry_run(tmp_path: Path) -> None:
    out, _ = run("plan", CONFIGS / "demo.yaml", "--out", tmp_path)
    for part in ("requests", "free", "camera", "local hour", "view", "split", "first frames", "dock-north"):
        assert part in out
    found: dict[str, Any] = json.loads(run("plan", CONFIGS / "demo.yaml", "--json")[0])
    assert found["frames"] == sum(found["by_camera"].values()) == sum(found["by_split"].values())
    assert found["moments"] == 400
    assert found["digest"] == rhombus_dataset.schedule_of(CONFIGS / "demo.yaml").digest
    assert found["seconds"] == pytest.approx((found["requests"] - 500) / 500, abs=0.01)


def test_preview_draws_a_few_frames(tmp_path: Path, demo_url: str) -> None:
    sheet = tmp_path / "sheet.jpg"
    run("plan", CONFIGS / "demo.yaml", "--preview", "6", "--preview-file", sheet, "--url", demo_url)
    rgb = decode_rgb(sheet.read_bytes())
    assert rgb.shape[1] > 800
    assert rgb.std() > 20
    for count in ("0", "201"):
        _, errors = run("plan", CONFIGS / "demo.yaml", "--preview", count, "--url", demo_url, code=2)
        assert "1 to 200 frames" in errors


def test_build_info_and_verify(tmp_path: Path, demo_url: str) -> None:
    out = tmp_path / "out"
    built: dict[str, Any] = json.loads(
        run("build", CONFIGS / "interval.yaml", "--out", out, "--url", demo_url, "--json")[0]
    )
    assert built["complete"] is True
    assert built["requests"] == built["planned"] == built["counts"]["ok"]
    again: dict[str, Any] = json.loads(
        run("build", CONFIGS / "interval.yaml", "--out", out, "--url", demo_url, "--json")[0]
    )
    assert again["requests"] == 0
    assert "complete" in run("info", out)[0]
    assert json.loads(run("info", out, "--json")[0])["counts"] == built["counts"]
    assert run("verify", out)[0].startswith("verify: no problems found in ")
    damaged = next((out / "data").glob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert "sha256" in run("verify", out, code=1)[0]
    assert json.loads(run("verify", out, "--json", code=1)[0])["ok"] is False


def test_a_wrong_key_a_dead_host_and_a_wrong_folder_are_told(tmp_path: Path, demo_url: str) -> None:
    arguments = ("build", CONFIGS / "interval.yaml", "--out", tmp_path / "out", "--url", demo_url)
    _, errors = run(*arguments, code=1, RHOMBUS_API_KEY="wrong-key")
    assert "the API refuses the key" in errors
    assert "wrong-key" not in errors
    _, errors = run(*arguments, code=2, RHOMBUS_API_KEY="")
    assert "set the environment variable RHOMBUS_API_KEY" in errors
    _, errors = run("info", tmp_path, code=1)
    assert "no dataset here" in errors
    (tmp_path / "file").write_text("")
    _, errors = run("build", CONFIGS / "interval.yaml", "--out", tmp_path / "file", "--url", demo_url, code=1)
    assert "not a folder" in errors
    _, errors = run(
        "build", CONFIGS / "interval.yaml", "--out", tmp_path / "o", "--url", "http://example.com", code=2
    )
    assert "unencrypted" in errors


def test_the_key_may_stand_in_a_file_that_others_cannot_read(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("local-key\n")
    with scripted_server(same_for_each_frame) as server:
        arguments = ("build", write_plan(tmp_path, server.url), "--out", tmp_path / "out")
        key.chmod(0o644)
        _, errors = run(*arguments, code=2, RHOMBUS_API_KEY="", RHOMBUS_API_KEY_FILE=str(key))
        assert "chmod 600" in errors
        key.chmod(0o600)
        run(*arguments, RHOMBUS_API_KEY="", RHOMBUS_API_KEY_FILE=str(key))
        assert server.asked[0].headers["x-auth-apikey"] == "local-key"


def test_the_demo_builds_a_dataset(tmp_path: Path) -> None:
    out, _ = run("demo", "--out", tmp_path / "demo", cwd=tmp_path)
    assert "Three commands to try next" in out
    assert verify(tmp_path / "demo").problems == ()
    card = (tmp_path / "demo" / "README.md").read_text().split("---\n", 2)[2].strip()
    assert (ROOT / "DATA_CARD.md").read_text().strip() == card, "run scripts/data-card"
    commands = [shlex.split(line) for line in out.split("Three commands")[1].splitlines()[1:] if line]
    assert len(commands) == 3
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert ("camera_name" in done.stdout) == ("-c" in command)


def test_an_extra_that_is_not_installed_is_named_with_its_command() -> None:
    """As on a bare install: the modules that only the extra brings cannot be imported."""
    code = (
        "import sys\n"
        "for name in ('av', 'fastapi', 'uvicorn'): sys.modules[name] = None\n"
        "from rhombus_dataset.cli import main\n"
        "main(sys.argv[1:])"
    )
    plans = ["build", str(CONFIGS / "recordings.yaml"), "--out", "unused"]
    for arguments in (["serve", str(CONFIGS / "demo-site.yaml")], plans, ["demo", "--out", "unused"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert "pip install 'rhombus-dataset[server]'" in done.stderr
        assert "Traceback" not in done.stderr
    assert subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, check=True)


def test_from_a_dataset_to_labels_and_on(thousand: Path, tmp_path: Path) -> None:
    """The commands of the README, in its order."""
    path = tmp_path / "loading-dock"
    shutil.copytree(thousand, path)
    out, _ = run("report", "loading-dock", cwd=tmp_path)
    assert out == "loading-dock/report.html: open it in a browser\n"
    out, _ = run("export", "loading-dock", "--to", "label-studio", "--out", "to-label", cwd=tmp_path)
    assert out == "to-label: 1,038 frames as label-studio\n"
    tasks = json.loads((tmp_path / "to-label" / "tasks.json").read_text())
    box = {"x": 10.0, "y": 20.0, "width": 30.0, "height": 40.0, "rotation": 0, "rectanglelabels": ["car"]}
    for task in tasks[::2]:
        result = [{"type": "rectanglelabels", "from_name": "box", "to_name": "image", "value": box}]
        task["annotations"] = [{"completed_by": {"id": 1, "email": "ana@example.com"}, "result": result}]
    (tmp_path / "project-1.json").write_text(json.dumps(tasks))
    found = json.loads(run("import-labels", "loading-dock", "project-1.json", "--json", cwd=tmp_path)[0])
    assert found == {
        "file": "loading-dock/annotations/project-1.parquet",
        "boxes": len(tasks[::2]),
        "classes": 0,
        "frames": len(tasks[::2]),
        "skipped": [],
        "skipped_file": None,
    }
    where = "split != 'test'"
    out, _ = run("export", "loading-dock", "--to", "yolo", "--out", "yolo", "--where", where, cwd=tmp_path)
    assert {path.name for path in (tmp_path / "yolo" / "images").iterdir()} == {"train", "validation"}
    assert "verify" not in run("verify", "loading-dock", cwd=tmp_path)[1]
    tasks[0]["data"]["frame_id"] = "f" * 20
    (tmp_path / "project-1.json").write_text(json.dumps(tasks[:2]))
    out, errors = run("import-labels", "loading-dock", "project-1.json", cwd=tmp_path, code=1)
    assert "0 boxes" in out
    assert "skipped: ffffffffffffffffffff: 'car': its name holds no frame_id of this dataset" in errors
    assert "1 label skipped; see loading-dock/annotations/_project-1.left.jsonl" in errors


def test_wrong_use_of_a_dataset_is_told(thousand: Path, tmp_path: Path) -> None:
    for arguments, told, code in (
        (("report", tmp_path), "no dataset here", 1),
        (("export", thousand, "--to", "cocoa", "--out", tmp_path / "x"), "did you mean coco?", 2),
        (("export", thousand, "--to", "coco", "--out", thousand), "exists and is not an empty folder", 2),
        (
            ("export", thousand, "--to", "coco", "--out", tmp_path / "x", "--where", "lum > 3"),
            "no column lum; did you mean luma?",
            2,
        ),
        (("export", thousand, "--to", "coco", "--out", tmp_path / "x", "--where", "luma > 999"), "no frames to", 1),
        (("import-labels", thousand, tmp_path / "none.json"), "no such file", 2),
    ):
        _, errors = run(*arguments, code=code)
        assert told in errors
    assert list(tmp_path.iterdir()) == []
