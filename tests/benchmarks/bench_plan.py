"""The dry run of 200 cameras over a year, stratified by camera and hour with a gap of 5 s, by its number of frames.

python -m tests.benchmarks.bench_plan                       # 1,000, 1,000,000 and 10,000,000 frames
python -m tests.benchmarks.bench_plan --frames 1000 --runs 1 --strata hour
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PLAN = """
version: 1
name: year
source: {{type: rhombus, url: "https://api2.rhombussystems.com", limits: {{requests_per_second: 10}}}}
cameras:
{cameras}
views: {{full: {{downscale: 1}}}}
windows: [{{start: 2025-01-01, end: 2026-01-01}}]
sampling: {{strategy: stratified, frames: {frames}, strata: [{strata}], min_gap: 5s}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of a dry run by its number of frames")
    parser.add_argument("--frames", type=int, nargs="+", default=[1_000, 1_000_000, 10_000_000])
    parser.add_argument("--strata", nargs="+", default=["camera", "hour"])
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    cameras = "\n".join(
        f'  - {{uuid: "{n:022d}", name: camera-{n}, timezone: {("America/Los_Angeles", "Europe/Berlin")[n % 2]}}}'
        for n in range(200)
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        plan = Path(folder) / "plan.yaml"
        for frames in arguments.frames:
            plan.write_text(PLAN.format(cameras=cameras, frames=frames, strata=", ".join(arguments.strata)))
            runs = [_dry_run(plan) for _ in range(arguments.runs)]
            wall, cpu, peak_mb = (statistics.median(values) for values in zip(*runs, strict=True))
            slowest = max(run[0] for run in runs)
            print(f"{frames:10,} frames: {wall:.1f} s (at most {slowest:.1f}), CPU {cpu:.1f} s, {peak_mb:.0f} MB")


def _dry_run(plan: Path) -> tuple[float, float, float]:
    """Return wall time and CPU time in seconds, and the peak memory in MB, of the whole command."""
    began = time.monotonic()
    command = [sys.executable, "-m", "rhombus_dataset", "plan", str(plan), "--json"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the dry run ended with exit code {process.returncode}")
    return time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
