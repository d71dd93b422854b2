"""The demo: serve drawn cameras on this machine, and build a dataset from them over HTTP."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from rhombus_dataset import api
from rhombus_dataset.api import info
from rhombus_dataset.errors import MissingExtra, UsageError
from rhombus_dataset.sources.rhombus.credentials import KEY_VARIABLE

SITE = "demo-site.yaml"
PLAN = "demo.yaml"
LOCAL_KEY = "local-key"
"""The key in ``demo-site.yaml``. It is valid only for the demo server on this machine."""


def configs() -> Path:
    """Return the folder of example plans: beside this module if installed, or at the top of a checkout."""
    here = Path(__file__).parent
    for folder in (here / "configs", here.parent / "configs"):
        if (folder / PLAN).exists():
            return folder
    raise UsageError("the example plans are missing: install rhombus-dataset again")


def run_demo(out: Path) -> None:
    """Build the demo dataset in ``out``. Print a summary of it, and commands to try next.

    Raises MissingExtra without the extra `server`, UsageError, and the errors of a build.
    """
    if not _server_installed():
        raise MissingExtra("the demo", "server")
    folder = configs()
    plan = folder / PLAN
    with _demo_server(folder / SITE) as url:
        click.echo(f"serving {folder / SITE} on {url}\nbuilding {plan} in {out}\n")
        with _key_of_demo():
            outcome = api.build(plan, out, url=url, progress=sys.stderr)
    click.echo(info(out).to_text())
    click.echo(
        f"\n{sum(outcome.counts.values())} frames, {outcome.requests} requests, "
        f"{outcome.seconds:.1f} s. Three commands to try next:\n\n"
        f"  {_command('rhombus-dataset')} verify {out}\n"
        f"  {_command('python')} -c \"import pandas; print(pandas.read_parquet('{out}/manifest')"
        "[['camera_name', 'timestamp', 'view', 'status', 'luma']])\"\n"
        f"  {_command('rhombus-dataset')} init my-plan.yaml\n"
    )


@contextlib.contextmanager
def _key_of_demo() -> Iterator[None]:
    """Set the API key of the environment inside the block, and restore it after."""
    before = os.environ.get(KEY_VARIABLE)
    os.environ[KEY_VARIABLE] = LOCAL_KEY
    try:
        yield
    finally:
        if before is None:
            del os.environ[KEY_VARIABLE]
        else:
            os.environ[KEY_VARIABLE] = before


def _command(name: str) -> str:
    """Return how to call a program of this environment, whether the environment is active or not."""
    program = Path(sys.executable).parent / name
    found = shutil.which(name)
    if found is not None and Path(found).parent == program.parent:
        return name
    here = Path.cwd()
    return str(program.relative_to(here) if program.is_relative_to(here) else program)


def _server_installed() -> bool:
    import importlib.util

    return all(importlib.util.find_spec(name) for name in ("fastapi", "uvicorn", "av"))


@contextlib.contextmanager
def _demo_server(site: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "rhombus_dataset", "serve", str(site), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            if not line.startswith("listening on "):
                raise UsageError(f"the demo server did not start: {line.strip() or 'it printed nothing'}")
            yield line.removeprefix("listening on ").strip()
        finally:
            server.terminate()
