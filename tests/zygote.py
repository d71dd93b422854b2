"""Runs the real command many times from one warm process, and kills it at given points.

Started as a program: reads one JSON object a line, answers with one. ``kill_after_s`` kills the command by SIGKILL
from outside, ``kill_at`` from within, at the n-th time that it is about to change the file system (a write to a
journal then gets only half of its bytes through). The answer has the exit code, how often the file system was about
to be changed, and what the command printed.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import rhombus_dataset

CHANGING = os.O_CREAT | os.O_TRUNC
AUDITED = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}
HOOKED = ("writev",)
"""No fsync: what a killed process has written is in the files, whether it was flushed to the disk or not."""


def import_all() -> None:
    """Import every module of the package, and what they import late."""
    import cv2  # noqa: F401
    import pandas  # noqa: F401

    for module in pkgutil.walk_packages(rhombus_dataset.__path__, "rhombus_dataset."):
        if not module.name.endswith(("__main__", ".pytorch", ".notebook")):
            importlib.import_module(module.name)


class Zygote:
    """A handle on the warm process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"RHOMBUS_API_KEY": "local-key"},
        )

    def run(self, *arguments: str | Path, **how: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"arguments": [str(a) for a in arguments], **how}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.communicate()


def serve() -> None:
    import_all()
    gc.freeze()  # The collector of a child then leaves the parent's objects alone, and their pages stay shared.

    for line in sys.stdin:
        task = json.loads(line)
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as count:
            child = os.fork()
            if child == 0:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                _count_changes(count.fileno(), task.get("kill_at"))
                _run(task["arguments"])
            if (after_s := task.get("kill_after_s")) is not None:
                time.sleep(after_s)
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            output.seek(0)
            changes = os.pread(count.fileno(), 20, 0)
            answer = {
                "exit_code": os.waitstatus_to_exitcode(status),
                "changes": int(changes or b"0"),
                "output": output.read().decode(errors="replace"),
            }
        print(json.dumps(answer), flush=True)


def _run(arguments: list[str]) -> None:
    from rhombus_dataset.cli import main

    code: Any = 1
    try:
        main(arguments)
    except SystemExit as end:
        code = end.code
    except BaseException:  # a bug: os._exit would hide it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0)


def _count_changes(descriptor: int, kill_at: int | None) -> None:
    changes = 0
    real = {name: getattr(os, name) for name in HOOKED}

    def change() -> bool:
        nonlocal changes
        changes += 1
        os.pwrite(descriptor, str(changes).encode(), 0)
        return changes == kill_at

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        creates = event == "open" and isinstance(arguments[2], int) and arguments[2] & CHANGING
        if (event in AUDITED or (creates and isinstance(arguments[0], str))) and change():
            os.kill(os.getpid(), signal.SIGKILL)

    def hooked(name: str) -> Any:
        def call(*arguments: Any) -> Any:
            if change():
                if name == "writev":
                    whole = b"".join(arguments[1])
                    os.write(arguments[0], whole[: len(whole) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real[name](*arguments)

        return call

    sys.addaudithook(audit)
    for name in HOOKED:
        setattr(os, name, hooked(name))


if __name__ == "__main__":
    serve()
