"""The warm process that runs the commands of tests that kill."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.zygote import Zygote


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    started = Zygote()
    yield started
    started.close()
