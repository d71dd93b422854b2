"""The endpoints that describe cameras: their list, their locations, their footage and their resolution."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from rhombus_dataset import wire
from rhombus_dataset.imaging.drawn_scene import HEIGHT_PX, WIDTH_PX
from rhombus_dataset.sources.recordings.site import Recording, Site, SiteCamera

GREEN: Final = "GREEN"
"""The status of every camera: recordings are always there."""

Seconds = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="ignore")


class ListRequest(_Request):
    """A request for a list. Its fields, such as includeMummified, change nothing here. It may have no body."""


class CameraRequest(_Request):
    """A request about one camera."""

    cameraUuid: Annotated[str, Field(description="RUUID")]  # noqa: N815


class PresenceRequest(CameraRequest):
    """A request for the times at which a camera has footage."""

    startTimeSec: Annotated[Seconds, Field(description="UTC epoch seconds")]  # noqa: N815
    durationSec: Seconds  # noqa: N815


class _Response(BaseModel):
    error: bool | None = False
    errorMsg: str | None = None  # noqa: N815
    warningMsg: str | None = None  # noqa: N815


class CameraState(BaseModel):
    """A camera."""

    uuid: str
    name: str
    locationUuid: str  # noqa: N815
    connectionStatus: str = GREEN  # noqa: N815
    healthStatus: str = GREEN  # noqa: N815
    healthStatusDetails: str = "NONE"  # noqa: N815
    mummified: bool = False
    supportedFacets: list[str]  # noqa: N815
    serialNumber: str  # noqa: N815
    firmwareVersion: str = "recordings"  # noqa: N815


class CameraStatesResponse(_Response):
    """All cameras of the site."""

    cameraStates: list[CameraState]  # noqa: N815


class Location(BaseModel):
    """A location. ``tz`` is the IANA time zone of its cameras."""

    uuid: str
    name: str
    tz: str
    subLocations: list[dict[str, Any]] = []  # noqa: N815


class LocationsResponse(_Response):
    """All locations of the site."""

    locations: list[Location]


class PresenceWindow(BaseModel):
    """A span with footage, in UTC epoch seconds."""

    startSeconds: int  # noqa: N815
    durationSeconds: int  # noqa: N815


class PresenceResponse(_Response):
    """The times at which a camera has footage, by the place where it is stored."""

    presenceWindows: dict[str, list[PresenceWindow]]  # noqa: N815


class ConfigResponse(_Response):
    """``config.resolution`` has the width and the height in pixels of the latest recording, if there is any."""

    config: dict[str, Any]


def add_lists(
    app: FastAPI, site: Site, authenticated: Callable[..., None], refusal: Callable[[], Response | None]
) -> None:
    """Add the endpoints to ``app``. They answer from the site file.

    ``authenticated`` checks the key of a request. ``refusal`` returns the response of a request beyond the rate
    limit, or None.
    """

    def answer(body: _Response) -> Response:
        return refusal() or JSONResponse(body.model_dump())

    def camera_of(uuid: str) -> SiteCamera:
        try:
            # The error quotes the text. An excerpt of 40 characters is longer than any UUID, so it stays wrong.
            return site.cameras[wire.canonical_uuid(uuid[:40])[:22]]
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        except KeyError:
            raise HTTPException(400, f"no camera {uuid} in {site.path.name}") from None

    checked = [Depends(authenticated)]

    @app.post(
        wire.CAMERAS_PATH,
        response_model=CameraStatesResponse,
        tags=["camera"],
        summary="All cameras",
        dependencies=checked,
    )
    async def get_minimal_camera_state_list(_: ListRequest | None = None) -> Response:
        return answer(CameraStatesResponse(cameraStates=[_state(c) for c in site.cameras.values()]))

    @app.post(
        wire.LOCATIONS_PATH,
        response_model=LocationsResponse,
        tags=["location"],
        summary="All locations, with their time zones",
        dependencies=checked,
    )
    async def get_locations(_: ListRequest | None = None) -> Response:
        found = [Location(uuid=place.uuid, name=place.name, tz=place.tz) for place in site.locations]
        return answer(LocationsResponse(locations=found))

    @app.post(
        wire.PRESENCE_PATH,
        response_model=PresenceResponse,
        tags=["camera"],
        summary="The times at which a camera has footage",
        dependencies=checked,
    )
    async def get_presence_windows(body: PresenceRequest) -> Response:
        end_s = min(body.startTimeSec + body.durationSec, int(time.time()))
        found = _windows(camera_of(body.cameraUuid).recordings, body.startTimeSec, end_s)
        return answer(PresenceResponse(presenceWindows={"VideoCloud": found}))

    @app.post(
        wire.CONFIG_PATH,
        response_model=ConfigResponse,
        tags=["camera"],
        summary="The resolution of a camera",
        dependencies=checked,
    )
    async def get_config(body: CameraRequest) -> Response:
        return answer(ConfigResponse(config={"resolution": _size(site, camera_of(body.cameraUuid))}))


def _state(camera: SiteCamera) -> CameraState:
    uuid, _, facet = camera.uuid.partition(".")
    return CameraState(
        uuid=uuid,
        name=camera.name,
        locationUuid=camera.location_uuid,
        supportedFacets=[facet],
        serialNumber=f"LOCAL-{uuid}",
    )


def _windows(recordings: tuple[Recording, ...], start_s: int, end_s: int) -> list[PresenceWindow]:
    """Return the whole seconds of [start_s, end_s) that have footage: one window for each recording."""
    windows = []
    for recording in recordings:
        first_s = max(start_s, math.ceil(recording.start_ms / 1000))
        last_s = min(end_s, math.floor(recording.end_ms / 1000))
        if first_s < last_s:
            windows.append(PresenceWindow(startSeconds=first_s, durationSeconds=last_s - first_s))
    return windows


def _size(site: Site, camera: SiteCamera) -> dict[str, int] | None:
    """Return the width and the height of the latest recording in pixels, or None if there is no recording."""
    if not camera.recordings:
        return None
    latest = camera.recordings[-1]
    if latest.path is None:
        return {"width": WIDTH_PX, "height": HEIGHT_PX}
    index = site.footage.index(latest.path)
    return {"width": index.width_px, "height": index.height_px}
