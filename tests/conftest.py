"""What many tests share: the demo cameras on a real socket, and the clips where they are at hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from rhombus_dataset.server import running_server
from rhombus_dataset.sources.recordings import load_site

# A shared machine is slow now and then: a deadline for each example would test the machine.
SLOW = [HealthCheck.too_slow]
# The same examples every time, so that a change is judged by what it changed; HYPOTHESIS_PROFILE=explore
# looks for new ones.
settings.register_profile("repeat", deadline=None, derandomize=True, suppress_health_check=SLOW)
settings.register_profile("explore", deadline=None, max_examples=1000, suppress_health_check=SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs"
NOW_MS = 1_790_000_000_000
"""2026-09-21: after all the footage that the tests ask for."""

os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many cases the fuzzing has tried."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if name == "fuzzed":
                terminalreporter.write_line(f"fuzzed: {value}")


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
    """Real clips, if this checkout stands beside some; tests that need a video make one as well."""
    return sorted((ROOT.parent / "shared" / "footage").glob("*.mp4"))
