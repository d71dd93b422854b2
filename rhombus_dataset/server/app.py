"""The application: authentication, rate limit and errors as the cloud has them, and the endpoint of frames."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

import anyio.to_thread
import pybase64
from fastapi import Depends, FastAPI, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from rhombus_dataset import wire
from rhombus_dataset.frame import FrameRequest
from rhombus_dataset.geometry import PERMYRIAD, Geometry
from rhombus_dataset.server.connections import connection_of
from rhombus_dataset.server.faults import Bucket, Faults, faulty, too_many
from rhombus_dataset.server.lists import add_lists
from rhombus_dataset.sources.recordings.site import Site
from rhombus_dataset.sources.recordings.source import RecordingsSource

MAX_BODY_BYTES: Final = 64 * 1024
"""Maximum length of a request's body: it has about 200 bytes."""
RENDER_THREADS: Final = 4
"""Maximum number of frames that are decoded at once. Further requests wait, so that memory is bounded."""

Int64 = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
PermyriadField = Annotated[int, Field(strict=True, ge=0, le=PERMYRIAD)]


class ExactFrameRequest(BaseModel):
    """A request for a frame. A null field counts as left out; unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore")

    cameraUuid: Annotated[  # noqa: N815
        str,
        Field(
            description="RUUID, optionally with a video facet such as .v0",
            json_schema_extra={"pattern": r"^[A-Za-z0-9_-]{22}(\.v([0-9]|[1-4][0-9]|5[01]))?$"},
        ),
    ]
    timestampMs: Annotated[Int64, Field(description="UTC epoch milliseconds")]  # noqa: N815
    downscaleFactor: Annotated[int, Field(strict=True, ge=1, le=2**31)] | None = None  # noqa: N815
    permyriadCropX: PermyriadField | None = None  # noqa: N815
    permyriadCropY: PermyriadField | None = None  # noqa: N815
    permyriadCropWidth: PermyriadField | None = None  # noqa: N815
    permyriadCropHeight: PermyriadField | None = None  # noqa: N815


class ExactFrameResponse(BaseModel):
    """A frame, or why there is none. ``frameData`` is set only if ``status`` is AVAILABLE."""

    error: bool | None = False
    errorMsg: str | None = None  # noqa: N815
    frameData: str | None = Field(None, description="The encoded image in base64")  # noqa: N815
    mimeType: str | None = None  # noqa: N815
    responseMessage: str | None = None  # noqa: N815
    status: str | None = None
    warningMsg: str | None = None  # noqa: N815


class ErrorResponse(BaseModel):
    """An error in the format of the API."""

    error: bool = True
    errorMsg: str | None = None  # noqa: N815
    warningMsg: str | None = None  # noqa: N815


class Unauthenticated(BaseModel):
    """The body of a 401."""

    authenticationFailed: bool = True  # noqa: N815


class _NoKeyError(Exception):
    pass


def create_app(site: Site) -> FastAPI:
    """Return the application that serves ``site``."""
    source = RecordingsSource(site)
    limiter = anyio.CapacityLimiter(RENDER_THREADS)
    keys = [key.encode() for key in site.api_keys]
    faults = Faults(site.faults, site.fault_seed)
    bucket = None if site.quota is None else Bucket(site.quota)

    def authenticated(
        x_auth_apikey: Annotated[str | None, Header()] = None,
        x_auth_scheme: Annotated[str | None, Header()] = None,
    ) -> None:
        scheme_known = x_auth_scheme is None or x_auth_scheme in wire.AUTH_SCHEMES
        given = (x_auth_apikey or "").encode()
        # Compare all keys, so that the response time does not show which one is similar.
        matches = [hmac.compare_digest(given, key) for key in keys]
        if not scheme_known or (keys and not any(matches)):
            raise _NoKeyError

    def refusal() -> Response | None:
        retry_after_s = None if bucket is None else bucket.take()
        return None if retry_after_s is None else too_many(retry_after_s)

    app = FastAPI(
        title="Camera cloud API, served from recordings",
        description="Answers with frames of video files on this machine, and describes their cameras.",
        version="1",
        # Errors have the format of the API. With a default, FastAPI does not add its own 422.
        responses={
            400: {"model": ErrorResponse},
            401: {"model": Unauthenticated},
            429: {"description": "Too many requests", "content": {"text/plain": {}}},
            "default": {"model": ErrorResponse},
        },
    )

    @app.post(
        wire.EXACT_FRAME_PATH,
        response_model=ExactFrameResponse,
        tags=["video"],
        summary="The frame that was on screen at a millisecond",
        dependencies=[Depends(authenticated)],
    )
    async def get_exact_frame_data(body: ExactFrameRequest, http: Request) -> Response:
        request = _frame_request(body)
        if isinstance(request, str):
            return _error(400, request)
        if (refused := refusal()) is not None:
            return refused

        async def answer() -> Response:
            async with limiter:
                if connection_of(http.scope) is None:
                    return _error(400, "the client has closed the connection")
                return await anyio.to_thread.run_sync(lambda: _answer(source.get(request)))

        fault = faults.next(request)
        return await (answer() if fault is None else faulty(fault, answer))

    add_lists(app, site, authenticated, refusal)
    _add_limits_and_errors(app)
    return app


def _add_limits_and_errors(app: FastAPI) -> None:
    """Limit the length of requests, and return errors in the format of the API."""

    @app.middleware("http")
    async def bounded(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        has_body = "transfer-encoding" in request.headers  # without either header, a request has no body
        length = request.headers.get("content-length", "" if has_body else "0")
        if request.method == "POST" and (not length.isdecimal() or len(length) > 9):
            return _error(411, "a request needs a Content-Length")
        if length.isdecimal() and int(length[:12]) > MAX_BODY_BYTES:
            return _error(413, f"the request is longer than {MAX_BODY_BYTES} bytes")
        return await call_next(request)

    @app.exception_handler(_NoKeyError)
    async def no_key(_: Request, __: Exception) -> Response:
        return JSONResponse({"authenticationFailed": True}, 401)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return _invalid(error)

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> Response:
        return _error(error.status_code, str(error.detail))


def _frame_request(body: ExactFrameRequest) -> FrameRequest | str:
    try:
        # The error quotes the text. An excerpt of 40 characters is longer than any UUID, so it stays wrong.
        uuid = wire.canonical_uuid(body.cameraUuid[:40])
    except ValueError as error:
        return str(error)
    crop = (
        body.permyriadCropX, body.permyriadCropY, body.permyriadCropWidth, body.permyriadCropHeight,
    )  # fmt: skip
    x, y, width, height = crop
    left, top = x or 0, y or 0
    try:
        geometry = Geometry(
            body.downscaleFactor or 1,
            left,
            top,
            PERMYRIAD - left if width is None else width,
            PERMYRIAD - top if height is None else height,
        )
    except ValueError as error:
        return str(error)
    return FrameRequest(uuid, body.timestampMs, geometry)


def _answer(reply: wire.Reply) -> Response:
    match reply:
        case wire.Image(image=image, mime_type=mime_type):
            # Base64 needs no escaping. Without a JSON encoder, the image's bytes are not scanned again.
            head = json.dumps(
                {"error": False, "errorMsg": None, "mimeType": mime_type, "responseMessage": None,
                 "status": wire.AVAILABLE, "warningMsg": None}
            )  # fmt: skip
            data = pybase64.b64encode(image)
            content = head[:-1].encode() + b', "frameData": "' + data + b'"}'
            return Response(content, media_type="application/json")
        case wire.Rejected(reason=reason):
            return _error(400, reason)
        case wire.NoFrame(reason=reason) | wire.Transient(reason=reason):
            return JSONResponse(
                {"error": False, "errorMsg": None, "frameData": None, "mimeType": None,
                 "responseMessage": reason, "status": reason, "warningMsg": None}
            )  # fmt: skip
        case _:
            return _error(500, "unexpected")


def _invalid(error: RequestValidationError) -> Response:
    """Return a 400 in the format of the API, or with ``msg`` if the body is not JSON.

    For a missing parameter, the cloud returns 500. Here it is 400, because it is an error of the client.
    """
    details: list[dict[str, Any]] = list(error.errors())
    first = details[0]
    if first["type"] == "json_invalid":
        return JSONResponse({"msg": "the request's body is not JSON"}, 400)
    field = next((str(step) for step in first["loc"][1:]), "the body")
    if any(d["type"] == "missing" for d in details) and len(first["loc"]) > 1:
        missing = ", ".join(str(d["loc"][-1]) for d in details if d["type"] == "missing")
        return _error(400, f"missing parameter: {missing}")
    return _error(400, f"{field}: {first['msg']}")


def _error(http_status: int, message: str) -> Response:
    return JSONResponse({"error": True, "errorMsg": message, "warningMsg": None}, http_status)
