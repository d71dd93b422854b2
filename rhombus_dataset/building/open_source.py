"""Open the source that a plan names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rhombus_dataset.errors import MissingExtra, UsageError
from rhombus_dataset.plan.model import Plan, RecordingsSource, RhombusSource, check_encrypted, check_url
from rhombus_dataset.sources import FrameSource


@contextlib.contextmanager
def open_source(plan: Plan, url: str | None) -> Iterator[FrameSource]:
    """Open the source of ``plan``, and close it at the end. ``url`` replaces the address in the plan.

    The API key comes from the environment. Raises UsageError, InvalidFile for a wrong site file, and MissingExtra.
    """
    match plan.source:
        case RhombusSource():
            source = _camera_cloud(plan.source, url)
        case RecordingsSource():
            if url is not None:
                raise UsageError("url: this plan reads recordings; an address goes with a source of type rhombus")
            source = _recordings(plan.source)
    with contextlib.closing(source):
        yield source


def _camera_cloud(described: RhombusSource, url: str | None) -> FrameSource:
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
