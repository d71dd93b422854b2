"""Runs the real command in a process of its own, forked from a warm one, with a limit of time and of memory."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import tempfile
from pathlib import Path

import pytest

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.commands", "tests.warm"])
MAX_MEMORY_BYTES = 4 << 30


def run_command(*arguments: str | Path, within_s: float) -> tuple[int, str]:
    """Return the exit code of a command, and what it printed. Fails the test if it takes longer."""
    with tempfile.NamedTemporaryFile() as output:
        process = _PROCESSES.Process(target=_run, args=(output.name, [str(argument) for argument in arguments]))
        process.start()
        process.join(within_s)
        if process.is_alive():
            process.kill()
            process.join()
            pytest.fail(f"the command ran for more than {within_s} s")
        assert process.exitcode is not None
        return process.exitcode, Path(output.name).read_text(errors="replace")


def _run(output: str, arguments: list[str]) -> None:
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY_BYTES, hard))
    from rhombus_dataset.cli import main

    main(arguments)
