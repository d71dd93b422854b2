"""Kills a command at each of its changes of the file system, repeats it, and compares all files.

A command works in a new folder of its own: its dataset is in it, and what it writes beside the dataset.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from rhombus_dataset.api import verify
from rhombus_dataset.store import layout
from tests import scale
from tests.zygote import Zygote

Command = Callable[[Path], list[str | Path]]
"""The arguments of a command, for the path of its dataset."""

MANY_CHANGES = 40
"""Of a command with as many changes, see also MANY_CHANGES."""
_KEPT = {layout.BUILD_FOLDER, layout.BUILD_LOCK_FILE}
"""The hidden names of a dataset that no command is changing."""
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp\b")


def tree(folder: Path) -> dict[str, str]:
    """Return the sha256 of all files below ``folder``, and its folders, without the log: it has clock times."""
    return {
        str(path.relative_to(folder)): "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.name != Path(layout.LOG_FILE).name
    }


def check_kills(
    zygote: Zygote,
    folder: Path,
    command: Command,
    before: Path | None = None,
    *,
    repeat: Command | None = None,
    after: Callable[[Path], None] = lambda dataset: None,
    exit_code: int = 0,
    part: tuple[int, int] = (0, 1),
) -> Path:
    """Kill ``command`` at every change that it makes, and check that its repeat ends as if nothing had happened.

    Each run starts from a copy of the dataset ``before``, or from nothing. After the kill, ``repeat`` runs (by
    default the same command), then ``after``. Then every file below and beside the dataset must have the same bytes
    as after an uninterrupted run, in which ``verify`` finds no problem and nothing temporary is left; equal bytes
    need no second verification. Where a kill leaves the same files as another one, the repeat is not run again.
    ``exit_code``: of the uninterrupted command; that of a repeat is this or 0. ``part``: (i, n) kills at every n-th
    change only, from the last but i back; see also MANY_CHANGES. Returns the dataset
    of the uninterrupted run.
    """
    whole, trial = folder / "whole", folder / "trial"
    done = zygote.run(*command(_new(whole, before)))
    assert done["exit_code"] == exit_code, done
    after(whole / "dataset")
    expected = tree(whole)
    hidden = {name for name in expected if "/." in f"/{name}"}
    assert {name.removeprefix("dataset/").removeprefix("scout/") for name in hidden} <= _KEPT, hidden
    assert verify(whole / "dataset").problems == ()
    checked = set()
    step = part[1] * (scale.step(3) if done["changes"] >= MANY_CHANGES else 1)
    for kill_at in range(done["changes"] - part[0], 0, -step):
        dataset = _new(trial, before)
        killed = zygote.run(*command(dataset), kill_at=kill_at)
        # The number of changes of a build depends on time: its journals are flushed every second.
        assert killed["exit_code"] in (-9, exit_code), (kill_at, killed)
        state = _TEMPORARY.sub(".tmp", str(tree(trial)))
        if state in checked:
            continue
        checked.add(state)
        again = zygote.run(*(repeat or command)(dataset))
        assert again["exit_code"] in (0, exit_code), (kill_at, again)
        after(dataset)
        found = tree(trial)
        assert found.keys() == expected.keys(), kill_at
        assert found == expected, kill_at
    shutil.rmtree(trial)
    assert len(checked) > 2
    return whole / "dataset"


def _new(folder: Path, before: Path | None) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if before is not None:
        shutil.copytree(before, folder / "dataset")
    return folder / "dataset"
