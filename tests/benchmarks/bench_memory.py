"""Peak memory of a build, few frames against many: it must not grow with the count.

python -m tests.benchmarks.bench_memory                      # 2,000 and 20,000 full-HD frames; 7 GB of disk
python -m tests.benchmarks.bench_memory --frames 500 5000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description="Peak memory of a build by its number of frames")
    parser.add_argument("--frames", type=int, nargs=2, default=[2_000, 20_000])
    parser.add_argument("--size", default="1080p")
    arguments = parser.parse_args()
    server = [sys.executable, "-m", "tests.benchmarks.prebuilt_server", arguments.size]
    peaks = []
    with subprocess.Popen(server, stdout=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout is not None
            port = serving.stdout.readline().split()[0]
            for frames in arguments.frames:
                with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                    command = [sys.executable, "-m", "tests.benchmarks.contenders", "project", port, str(frames)]
                    done = subprocess.run(
                        [*command, str(Path(folder) / "out")], check=True, stdout=subprocess.PIPE, text=True
                    )
                peaks.append(json.loads(done.stdout)["peak_mb"])
                print(f"{frames:7,} frames: {peaks[-1]:.0f} MB at the peak", flush=True)
        finally:
            serving.terminate()
    print(f"ratio {peaks[1] / peaks[0]:.2f}")


if __name__ == "__main__":
    main()
