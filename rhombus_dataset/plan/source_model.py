"""The types of a plan's ``source``: where frames come from, how requests are authenticated, and their limits."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from rhombus_dataset.config.validation import shown
from rhombus_dataset.plan.values import DurationMs, Flag, Number, Text, Whole


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Auth(Model):
    """How requests are authenticated. The key itself comes from the environment, never from a plan."""

    scheme: Literal["api-token", "partner-api-token", "api", "partner-api"] = Field(
        "api-token",
        description="Authentication scheme of the API (header `x-auth-scheme`).",
        examples=["api-token"],
    )
    org: Text | None = Field(
        None, description="Organisation that a partner's request is for (header `x-auth-org`).", examples=["my-org"]
    )
    certificate: Path | None = Field(
        None, description="Client certificate, a PEM file. Required for scheme `api`.", examples=["client.pem"]
    )
    certificate_key: Path | None = Field(
        None, description="Private key of the certificate, if it is in a separate file.", examples=["client.key"]
    )

    @model_validator(mode="after")
    def _certificate(self) -> Self:
        if self.scheme == "api" and self.certificate is None:
            raise ValueError("scheme api signs with a client certificate: give certificate, a PEM file")
        return self


class Limits(Model):
    """Limits of a build's requests. The cloud's rate limit is shared by the whole organisation."""

    requests_per_second: Annotated[Number, Field(gt=0, le=100_000)] = Field(
        5.0, description="Maximum request rate of the whole build.", examples=[5]
    )
    burst: Annotated[Whole, Field(ge=1, le=100_000)] = Field(
        20, description="Number of requests that may be sent at once after a pause.", examples=[20]
    )
    concurrency: Annotated[Whole, Field(ge=1, le=256)] = Field(
        16, description="Maximum number of requests in flight.", examples=[16]
    )
    per_camera: Annotated[Whole, Field(ge=1, le=256)] = Field(
        4, description="Maximum number of requests in flight for one camera.", examples=[4]
    )
    timeout: Annotated[DurationMs, Field(ge=1_000, le=600_000)] = Field(
        30_000, description="Timeout of one request.", examples=["30s"]
    )
    tries: Annotated[Whole, Field(ge=1, le=20)] = Field(
        6, description="Maximum number of attempts for one frame, the first included.", examples=[6]
    )
    deadline: Annotated[DurationMs, Field(ge=1_000, le=86_400_000)] = Field(
        300_000,
        description="Maximum time for one frame over all attempts and pauses. Waiting after a 429 is not counted.",
        examples=["5m"],
    )
    max_wait: Annotated[DurationMs, Field(ge=1_000, le=7 * 86_400_000)] = Field(
        900_000,
        description="Maximum time that the build waits without an answer because the API says 429. Then it stops.",
        examples=["15m"],
    )
    min_success_rate: Annotated[Number, Field(ge=0, le=1)] = Field(
        0.1,
        description="The build stops when the share of its last 200 frames that succeeded is lower. "
        "A `missing` frame counts as success. 0 never stops the build.",
        examples=[0.1],
    )


def check_url(value: Any) -> str:
    """An address of the API, without a slash at its end. Raises ValueError for anything else."""
    parts = urlsplit(value) if isinstance(value, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"expected an address such as https://api2.rhombussystems.com, got {shown(value)}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("expected an address without user, password, query or fragment")
    return str(value).rstrip("/")


class RhombusSource(Model):
    """The camera cloud, or a server with the same API."""

    type: Literal["rhombus"] = Field(description="Fetch frames over HTTP.", examples=["rhombus"])
    url: Annotated[str, BeforeValidator(check_url)] = Field(
        "https://api2.rhombussystems.com",
        description="Base address of the API.",
        examples=["https://api2.eu.rhombussystems.com"],
    )
    auth: Auth = Field(Auth(), description="Authentication, if it differs from an API token.")
    limits: Limits = Field(Limits(), description="Request rate, concurrency, timeouts and attempts.")
    allow_plain_http: Flag = Field(
        False, description="Allow plain HTTP to another machine. The key is then sent unencrypted.", examples=[True]
    )

    @model_validator(mode="after")
    def _encrypted(self) -> Self:
        check_encrypted(self.url, self.allow_plain_http)
        return self


def check_encrypted(url: str, allowed: bool) -> None:
    """Raises ValueError for plain HTTP to another machine: it would show the key to everyone between."""
    parts = urlsplit(url)
    if parts.scheme == "https" or allowed:
        return
    host = parts.hostname or ""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise ValueError(f"plain http would send the key unencrypted to {host}: use https")


class RecordingsSource(Model):
    """Video files on this machine, described by a site file. No HTTP."""

    type: Literal["recordings"] = Field(description="Read frames from video files.", examples=["recordings"])
    site: Path = Field(description="Site file. The path is relative to the plan.", examples=["site.yaml"])
    limits: Limits = Field(
        Limits(requests_per_second=100_000, burst=1_000, concurrency=4),
        description="As for `rhombus`. Defaults: 100000 requests per second, burst 1000, concurrency 4.",
    )
