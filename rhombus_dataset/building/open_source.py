"""Open the source that a plan names, or a camera cloud by its address."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rhombus_dataset.building.fetch import Fetcher
from rhombus_dataset.building.rate_limiter import RateLimiter
from rhombus_dataset.errors import MissingExtra, UsageError
from rhombus_dataset.plan.loader import load_plan
from rhombus_dataset.plan.model import Plan, RecordingsSource, RhombusSource, check_encrypted, check_url
from rhombus_dataset.sources import FrameSource

if TYPE_CHECKING:
    from rhombus_dataset.plan.model import Limits
    from rhombus_dataset.sources.rhombus import client

_ATTEMPTS: Final = 2
"""Attempts for each frame where somebody waits."""


@contextlib.contextmanager
def open_source(plan: Plan, url: str | None) -> Iterator[FrameSource]:
    """Open the source of ``plan``, and close it at the end. ``url`` replaces the address in the plan.

    The API key comes from the environment. Raises UsageError, InvalidFile for a wrong site file, and MissingExtra.
    """
    source: FrameSource
    match plan.source:
        case RhombusSource():
            source = _camera_cloud(plan.source, url)
        case RecordingsSource():
            if url is not None:
                raise UsageError("url: this plan reads recordings; an address goes with a source of type rhombus")
            source = _recordings(plan.source)
    with contextlib.closing(source):
        yield source


@contextlib.contextmanager
def open_camera_cloud(target: str, now_ms: int) -> Iterator[tuple[client.RhombusSource, Limits]]:
    """Open the camera cloud at an address, or the one that a plan names, and close it at the end.

    Yields it with the limits of its requests: the plan's, or the default ones. ``now_ms``: UTC epoch milliseconds.
    The API key comes from the environment. Raises UsageError, and InvalidFile for a wrong plan.
    """
    if "://" in target:
        described, url = RhombusSource(type="rhombus"), target
    elif not Path(target).exists():
        raise UsageError(
            f"{target}: no such file: expected a plan, or an address such as https://api2.rhombussystems.com"
        )
    else:
        plan = load_plan(Path(target), now_ms=now_ms)
        if isinstance(plan.source, RecordingsSource):
            raise UsageError(f"{target}: this plan reads recordings. Its cameras are in {plan.source.site}")
        described, url = plan.source, plan.source.url
    with contextlib.closing(_camera_cloud(described, url)) as source:
        yield source, described.limits


@contextlib.contextmanager
def open_fetcher(plan: Plan, url: str | None) -> Iterator[Fetcher]:
    """Open a fetcher of a few frames of ``plan``, under its limits, for somebody who waits. See ``open_source``."""
    with open_source(plan, url) as source:
        yield Fetcher(source, limiter_of(plan.source.limits, threading.Event()), _ATTEMPTS, lambda *_: None)


def limiter_of(limits: Limits, stop: threading.Event) -> RateLimiter:
    """Return the rate limiter of a plan's limits. Setting ``stop`` ends all waits."""
    return RateLimiter(limits.requests_per_second, limits.burst, stop, max_wait_s=limits.max_wait / 1000)


def _camera_cloud(described: RhombusSource, url: str | None) -> client.RhombusSource:
    from rhombus_dataset.sources.rhombus import client, credentials

    address = described.url
    if url is not None:
        try:
            address = check_url(url)
            check_encrypted(address, described.allow_plain_http)
        except ValueError as error:
            raise UsageError(f"url: {error}") from None
    return client.RhombusSource(
        address,
        credentials.read_api_key(),
        scheme=described.auth.scheme,
        org=described.auth.org,
        certificate=described.auth.certificate,
        certificate_key=described.auth.certificate_key,
        timeout_s=described.limits.timeout / 1000,
        connections=described.limits.concurrency,
    )


def _recordings(described: RecordingsSource) -> FrameSource:
    try:
        from rhombus_dataset.sources.recordings.site import load_site
        from rhombus_dataset.sources.recordings.source import RecordingsSource
    except ModuleNotFoundError:
        raise MissingExtra("a source of type recordings", "server") from None
    return RecordingsSource(load_site(described.site))
