"""A library call leaves the state of its caller's process as it was: threads of OpenCV, logging, environment."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CONFIGS, ROOT

PLAN = """
version: 1
name: state
seed: 1
source: {type: recordings, site: SITE}
cameras:
  - {uuid: DEMO-dock-north-AAAAAA, name: dock-north, timezone: America/Los_Angeles}
  - {uuid: DEMO-gate-east-AAAAAAA, name: gate-east, timezone: America/Los_Angeles}
views:
  full: {downscale: 4}
windows:
  - {start: 2026-06-02T12:00, end: 2026-06-02T12:20}
sampling: SAMPLING
splits: {by: time, block: 1m, fractions: {train: 0.5, test: 0.5}}
dedup: {within: 1m}
"""
RANDOM = "{strategy: random, frames: 16, min_gap: 1s}"
SCOUT = "{strategy: scout, every: 20s, downscale: 8, frames_per_camera: 5, quiet: 0.1}"
CALLS = (
    "dry_run", "preview", "build", "verify", "report", "export", "info", "open_dataset", "erase",
    "build_scout", "verify_scout", "running_server",
)  # fmt: skip

CODE = """
import hashlib, json, locale, logging, os, random, signal, socket, sys, threading, urllib.request, warnings
from pathlib import Path
import av, cv2, numpy, rhombus_dataset as r
from rhombus_dataset.server.run import running_server
from rhombus_dataset.sources.recordings.site import load_site

def state():
    loggers = {name: logger for name, logger in logging.root.manager.loggerDict.items() if hasattr(logger, "level")}
    return {
        "OpenCV threads": cv2.getNumThreads(),
        "environment": dict(os.environ),
        "signal handlers": {number.name: str(signal.getsignal(number)) for number in signal.valid_signals()
                            if isinstance(number, signal.Signals)},
        "root logger": [logging.root.level, str(logging.root.handlers), logging.root.manager.disable],
        "logger levels": {name: logger.level for name, logger in loggers.items() if logger.level},
        "logger handlers": {name: str(logger.handlers) for name, logger in loggers.items() if logger.handlers},
        "locale": locale.setlocale(locale.LC_ALL),
        "warnings": [str(filter) for filter in warnings.filters],
        "folder": os.getcwd(),
        "av log level": av.logging.get_level(),
        "NumPy errors": numpy.geterr(),
        "random": hashlib.sha256(repr((random.getstate(), numpy.random.get_state())).encode()).hexdigest(),
        "socket timeout": socket.getdefaulttimeout(),
        "hooks": str([sys.excepthook, threading.excepthook, sys.stdout, sys.stderr]),
        "threads": sorted(thread.name for thread in threading.enumerate()),
    }

plan, scout, out, scouted, site = sys.argv[1:]

def serve():
    with running_server(load_site(Path(site))) as url:
        urllib.request.urlopen(url + "/openapi.json").read()

steps = {
    "dry_run": lambda: r.dry_run(plan),
    "preview": lambda: r.preview(plan, 2, out + ".jpg"),
    "build": lambda: r.build(plan, out),
    "verify": lambda: r.verify(out),
    "report": lambda: r.report(out),
    "export": lambda: r.export(out, "coco", out + "-coco"),
    "info": lambda: r.info(out),
    "open_dataset": lambda: r.open_dataset(out)[0].decode(),
    "erase": lambda: r.erase(out, "dock-north", end="2026-06-02T12:05"),
    "build_scout": lambda: r.build(scout, scouted),
    "verify_scout": lambda: r.verify(scouted),
    "running_server": serve,
}
changes = {}
for name, step in steps.items():
    cv2.setNumThreads(3)
    before = state()
    step()
    after = state()
    changes[name] = {key: [before[key], after[key]] for key in before if before[key] != after[key]}
print(json.dumps(changes, default=str))
"""


@pytest.fixture(scope="module")
def changes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What differs after each call, in one process that makes all of them."""
    folder: Path = tmp_path_factory.mktemp("state")
    for name, sampling in (("plan", RANDOM), ("scout", SCOUT)):
        text = PLAN.replace("SITE", str(CONFIGS / "demo-site.yaml")).replace("SAMPLING", sampling)
        (folder / f"{name}.yaml").write_text(text)
    paths = [folder / name for name in ("plan.yaml", "scout.yaml", "out", "scouted")]
    command = [sys.executable, "-c", CODE, *map(str, paths), str(CONFIGS / "demo-site.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("call", CALLS)
def test_a_call_changes_nothing_in_the_process(changes: Any, call: str) -> None:
    assert changes[call] == {}
