"""Resuming a build of 1,000,000 frames of which 99 % are done: the time from the command to its first request.

python -m tests.benchmarks.bench_resume
python -m tests.benchmarks.bench_resume --frames 100000 --runs 1
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from rhombus_dataset.building.commit import finalize_shard
from rhombus_dataset.building.reuse import CommittedFrames, KnownFrames
from rhombus_dataset.frame import Outcome, Status
from rhombus_dataset.plan.loader import load_plan
from rhombus_dataset.planning.lock_file import lock_files
from rhombus_dataset.planning.resolve import resolve
from rhombus_dataset.planning.sampling import sample
from rhombus_dataset.store import layout
from rhombus_dataset.store.journal import Journals
from tests.scripted_server import Answer, Asked, scripted_server

NOW_MS = 1_790_000_000_000
PLAN = """
version: 1
name: resumed
source: {{type: rhombus, url: "{url}"}}
cameras:
{cameras}
views: {{full: {{downscale: 1}}}}
windows: [{{start: 2025-01-01, end: 2026-01-01}}]
sampling: {{strategy: stratified, frames: {frames}, min_gap: 5s}}
"""
MISSING = Outcome(Status.MISSING, reason="NO_FOOTAGE_AT_TIMESTAMP")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time from a resumed build to its first request")
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    asked = threading.Event()

    def script(_: Asked) -> Answer:
        asked.set()
        return Answer(200, b'{"status": "NO_FOOTAGE_AT_TIMESTAMP"}')

    with scripted_server(script) as server, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        plan, out = Path(folder) / "plan.yaml", Path(folder) / "out"
        cameras = "\n".join(f'  - {{uuid: "{n:022d}", name: camera-{n}, timezone: UTC}}' for n in range(200))
        plan.write_text(PLAN.format(url=server.url, cameras=cameras, frames=arguments.frames))
        _build_most_of_it(plan, out)
        seconds = []
        for _ in range(arguments.runs):
            asked.clear()
            began = time.monotonic()
            command = [sys.executable, "-m", "rhombus_dataset", "build", str(plan), "--out", str(out), "--quiet"]
            with subprocess.Popen(command, env=os.environ | {"RHOMBUS_API_KEY": "local-key"}) as process:
                while not asked.wait(0.01) and process.poll() is None:
                    pass
                seconds.append(time.monotonic() - began)
                process.kill()
        wall_s, slowest_s = statistics.median(seconds), max(seconds)
        print(
            f"{arguments.frames:,} frames, 99 % done: first request after {wall_s:.1f} s (at most {slowest_s:.1f})"
        )


def _build_most_of_it(plan: Path, out: Path) -> None:
    """Commit 99 % of the shards, as if their frames had all been missing."""
    lock = resolve(load_plan(plan, NOW_MS), NOW_MS)
    schedule = sample(lock)
    (out / layout.BUILD_FOLDER).mkdir(parents=True)
    for name, content in lock_files(lock).items():
        (out / name).write_bytes(content)
    journals = Journals(out / layout.JOURNAL_FOLDER, schedule.digest)
    known = KnownFrames(CommittedFrames(out, frozenset()), ())
    shards = schedule.build_order()
    for shard in shards[: len(shards) * 99 // 100]:
        journals.recover(shard.stem, range(shard.start, shard.stop))
        for row in range(shard.start, shard.stop):
            journals.append(shard.stem, row, MISSING)
        finalize_shard(out, schedule, shard, journals.take(shard.stem), known)
    journals.close()


if __name__ == "__main__":
    main()
