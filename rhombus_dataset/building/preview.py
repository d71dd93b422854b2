"""The preview of a plan: a few small frames with the plan's crops and masks drawn on them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from rhombus_dataset.building.fetch import Deferred, Fetcher
from rhombus_dataset.building.open_source import open_fetcher
from rhombus_dataset.errors import UsageError
from rhombus_dataset.frame import FrameRequest, Outcome
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.imaging.contact_sheet import MAX_TILES, Tile, contact_sheet
from rhombus_dataset.imaging.jpeg import decode_rgb
from rhombus_dataset.plan.model import Plan, ScoutSampling
from rhombus_dataset.planning.resolve import resolve
from rhombus_dataset.planning.sampling import sample
from rhombus_dataset.planning.schedule import Schedule
from rhombus_dataset.scout.pass_plan import scout_pass
from rhombus_dataset.store.files import make_folders, remove_leftovers, write_file

PREVIEW_DOWNSCALE: Final = 4
"""Previews show the full frame at a quarter of its width and height: a tile is no larger."""


def write_preview(plan: Plan, count: int, image: Path, url: str | None, now_ms: int) -> Path:
    """Fetch ``count`` of the plan's moments and write a contact sheet of them (JPEG) to ``image``. Return its path.

    The moments are spread evenly over the schedule; of a plan that scouts, over the schedule of its pass.
    ``now_ms``: UTC epoch milliseconds. Raises InvalidFile, UsageError, AccessRefused, HostUnreachable and
    StorageError.
    """
    if not 1 <= count <= MAX_TILES:
        raise UsageError(f"a preview shows 1 to {MAX_TILES} frames, got {count}")
    previewed = scout_pass(plan) if isinstance(plan.sampling, ScoutSampling) else plan
    schedule = sample(resolve(previewed, now_ms))
    with open_fetcher(plan, url) as fetcher:
        rows = sorted({i * len(schedule) // count for i in range(min(count, len(schedule)))})
        tiles = [_tile(plan, schedule, row, fetcher) for row in rows]
    make_folders(image.parent)
    remove_leftovers(image)
    write_file(image, contact_sheet(tiles))
    return image


def _tile(plan: Plan, schedule: Schedule, row: int, fetcher: Fetcher) -> Tile:
    camera, request = schedule.camera_of(row), schedule.request(row)
    whole = FrameRequest(request.camera_uuid, request.timestamp_ms, Geometry(downscale=PREVIEW_DOWNSCALE))
    outcome = fetcher.fetch(whole)
    (views,) = [c.views or tuple(plan.views) for c in plan.cameras if c.uuid == camera.uuid]
    image = outcome.image if isinstance(outcome, Outcome) else None
    return Tile(
        image=None if image is None else decode_rgb(image),
        caption=(camera.name, schedule.local_time(row).isoformat(" ", "milliseconds")),
        reason=None if isinstance(outcome, Deferred) else outcome.reason,
        crops={name: plan.views[name] for name in views if plan.views[name].is_cropped},
        masks=camera.masks,
    )
