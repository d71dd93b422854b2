"""Shared fixtures: the demo cameras on a real socket, and real clips if they are available."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import pytest
from hypothesis import HealthCheck, settings

import rhombus_dataset
from rhombus_dataset.server.run import running_server
from rhombus_dataset.sources.recordings.site import load_site
from tests.videos import write_video

# A shared machine is sometimes slow: a deadline for each example would test the machine.
SLOW = [HealthCheck.too_slow]
# The same examples in every run, so that a failure is caused by the change. HYPOTHESIS_PROFILE=explore searches
# for new ones.
settings.register_profile("repeat", deadline=None, derandomize=True, suppress_health_check=SLOW)
settings.register_profile("explore", deadline=None, max_examples=1000, suppress_health_check=SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs"
NOW_MS = 1_790_000_000_000
"""2026-09-21: later than all footage of the tests."""

# See scripts/test.
cv2.setNumThreads(1)

os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the number of fuzzed cases, and how long a new user's first export takes."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if name in ("fuzzed", "timed"):
                terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session")
def demo_url() -> Iterator[str]:
    """The demo cameras, served over HTTP."""
    with running_server(load_site(CONFIGS / "demo-site.yaml")) as url:
        yield url


@pytest.fixture(autouse=True)
def _local_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RHOMBUS_API_KEY", "local-key")


@pytest.fixture(scope="session")
def clips() -> list[Path]:
    """Real clips, if they are available beside this checkout. Tests that need a video also generate one."""
    return sorted((ROOT.parent / "shared" / "footage").glob("*.mp4"))


THOUSAND_PLAN = """
version: 1
name: thousand
seed: 3
source: {type: recordings, site: site.yaml}
cameras:
  - {uuid: THOUSAND-dock-north-AA, name: dock-north, timezone: America/Los_Angeles}
  - {uuid: THOUSAND-gate-east-AAA, name: gate-east, timezone: America/Los_Angeles, views: [full]}
views:
  full: {downscale: 2}
  door: {crop: {x: 25%, y: 10%, width: 50%, height: 60%}}
windows:
  - {start: 2026-06-01T06:00, end: 2026-06-01T08:30}
sampling: {strategy: random, frames: 700, min_gap: 1s}
splits: SPLITS
output: {format: FORMAT, frames_per_shard: 200}
"""


THOUSAND_SPLITS = "{by: time, block: 5m, embargo: 10s, fractions: {train: 0.8, validation: 0.1, test: 0.1}}"


def build_thousand(
    folder: Path, clips: list[Path], data_format: str = "parquet", splits: str = THOUSAND_SPLITS
) -> Path:
    """Build 1,050 rows of two cameras and two views. At the end, one camera has no footage."""
    videos = clips[:2]
    if len(videos) < 2:
        videos = [folder / "made.mp4"] * 2
        write_video(videos[0], [Fraction(i, 15) for i in range(300)])
    with av.open(str(videos[1])) as container:
        seconds = (container.duration or 0) / 1_000_000
    site = "locations: [{uuid: THOUSAND-location-AAAA, name: HQ, tz: America/Los_Angeles}]\ncameras:\n"
    for uuid, name, video, repeat in (
        ("THOUSAND-dock-north-AA", "dock-north", videos[0], 2000),
        ("THOUSAND-gate-east-AAA", "gate-east", videos[1], round(2.4 * 3600 / seconds)),
    ):
        recording = f"{{path: {video}, start: 2026-06-01T06:00:00-07:00, repeat: {repeat}}}"
        site += f"  - {{uuid: {uuid}, name: {name}, location: HQ, recordings: [{recording}]}}\n"
    (folder / "site.yaml").write_text(site)
    (folder / "plan.yaml").write_text(THOUSAND_PLAN.replace("FORMAT", data_format).replace("SPLITS", splits))
    rhombus_dataset.build(folder / "plan.yaml", folder / data_format)
    return folder / data_format


@pytest.fixture(scope="session")
def thousand(tmp_path_factory: pytest.TempPathFactory, clips: list[Path]) -> Path:
    """A dataset of 1,050 rows, of real footage if it is available."""
    return build_thousand(tmp_path_factory.mktemp("thousand"), clips)


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the content of all files of a folder, by relative path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
