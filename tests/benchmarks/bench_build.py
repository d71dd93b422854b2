"""Build the same frames three ways, in one run, and print what each costs.

    python -m tests.benchmarks.bench_build            # full HD and 640 x 360, 5 repeats
    python -m tests.benchmarks.bench_build --repeats 3 --frames 1000 --size 360p

CPU is that of the whole client process while it builds (imports excluded), user and system, all threads.
The contenders take turns, so that a slow minute of a shared machine hits them all. Compare the ratios:
absolute figures are this machine's, this minute's.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.contenders import CONTENDERS, THREADS
from tests.benchmarks.prebuilt_server import SIZES

MEASURES = {"cpu_ms": "CPU ms/frame", "frames_per_s": "frames/s", "peak_mb": "peak MB"}


def measure(size: str, frames: int, repeats: int) -> tuple[int, dict[str, list[dict[str, float]]]]:
    module = "tests.benchmarks.prebuilt_server"
    results: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    with subprocess.Popen([sys.executable, "-m", module, size], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port, answer_bytes = (int(word) for word in server.stdout.readline().split())
            for _ in range(repeats):
                for name in CONTENDERS:
                    folder = Path(tempfile.mkdtemp(prefix="bench-"))
                    command = [sys.executable, "-m", "tests.benchmarks.contenders", name, str(port)]
                    command += [str(frames), str(folder / "out")]
                    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                    results[name].append(json.loads(done.stdout))
                    shutil.rmtree(folder)
        finally:
            server.terminate()
    return answer_bytes, results


def table(results: dict[str, list[dict[str, float]]]) -> str:
    lines = [f"{'':9}" + "".join(f"{label + ' (min-max)':>30}" for label in MEASURES.values())]
    for name, runs in results.items():
        cells = []
        for key in MEASURES:
            values = [run[key] for run in runs]
            digits = 2 if key == "cpu_ms" else 0
            cells.append(
                f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"
            )
        lines.append(f"{name:9}" + "".join(f"{cell:>30}" for cell in cells))
    cpu = {name: statistics.median(run["cpu_ms"] for run in runs) for name, runs in results.items()}
    lines.append(
        f"project / floor {cpu['project'] / cpu['floor']:.2f}    "
        f"project / script {cpu['project'] / cpu['script']:.2f}"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU, speed and memory of three ways to build a dataset")
    parser.add_argument("--size", choices=sorted(SIZES), action="append")
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    for size in arguments.size or SIZES:
        answer_bytes, results = measure(size, arguments.frames, arguments.repeats)
        print(
            f"{size}: {arguments.frames} frames, answers of {answer_bytes / 1000:.0f} kB, "
            f"{THREADS} threads, median of {arguments.repeats}"
        )
        print(table(results), flush=True)
        print()


if __name__ == "__main__":
    main()
