"""One frame of a dataset."""

from __future__ import annotations

import datetime as dt
import io
import os
import zoneinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import numpy.typing as npt

from rhombus_dataset.errors import DatasetError, MissingExtra, UsageError, did_you_mean
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.html.render import data_uri, html
from rhombus_dataset.imaging.jpeg import DamagedImage, Scale, decode_rgb, thumbnail
from rhombus_dataset.plan.local_time import utc_text
from rhombus_dataset.store import schema
from rhombus_dataset.store.annotations import Annotation
from rhombus_dataset.store.files import write_file

if TYPE_CHECKING:
    from PIL.Image import Image

    from rhombus_dataset.dataset.collection import Dataset

SHOWN_PX: Final = 200
"""Longer side in pixels of an image of a dataset in a notebook."""
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Frame:
    """One frame of a dataset: the columns of its row, and its image, which is read on request."""

    __slots__ = ("_dataset", "_row")

    def __init__(self, dataset: Dataset, row: int) -> None:
        self._dataset = dataset
        self._row = row

    def read(self) -> bytes:
        """Return the stored image: the bytes of a JPEG file. Raises DatasetError if it cannot be read."""
        return self._dataset._images.read(self._value("file"), self._value("row"))

    def decode(self, scale: Scale = 1) -> npt.NDArray[np.uint8]:
        """Return the image as an array: uint8, (H, W, 3), RGB.

        ``scale`` (1, 2, 4 or 8) divides width and height, rounding up; it is faster than full size. Raises
        DatasetError if the image cannot be read or is damaged.
        """
        try:
            return decode_rgb(self.read(), scale)
        except DamagedImage as error:
            raise DatasetError(f"{self!r}: {error}. `rhombus-dataset verify` shows all problems") from None

    @property
    def image(self) -> Image:
        """The image for Pillow, RGB. Raises MissingExtra without Pillow, and DatasetError as :meth:`decode`."""
        try:
            from PIL import Image
        except ModuleNotFoundError:
            raise MissingExtra("frame.image", "plots") from None
        try:
            image = Image.open(io.BytesIO(self.read()))
            image.load()
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise DatasetError(f"{self!r}: {error}. `rhombus-dataset verify` shows all problems") from None
        return image.convert("RGB")

    def show(self) -> None:
        """Show the image in a window. In a notebook, write the frame as the last line of a cell instead."""
        self.image.show(title=self.frame_id)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the stored JPEG to a file, and return its path. Raises UsageError for another ending."""
        file = Path(path)
        if file.suffix.lower() not in (".jpg", ".jpeg"):
            raise UsageError(f"{file}: expected a name with .jpg at the end: the image is stored as JPEG")
        write_file(file, self.read())
        return file

    def to_dict(self) -> dict[str, Any]:
        """Return the row of the manifest, by column."""
        return {name: self._value(name) for name in self._dataset.manifest.column_names}

    @property
    def frame_id(self) -> str:
        """20 hex digits that identify camera, time and geometry."""
        return cast(str, self._value("frame_id"))

    @property
    def split(self) -> str:
        return cast(str, self._value("split"))

    @property
    def camera_uuid(self) -> str:
        return cast(str, self._value("camera_uuid"))

    @property
    def camera_name(self) -> str:
        return cast(str, self._value("camera_name"))

    @property
    def location(self) -> str | None:
        return cast("str | None", self._value("location"))

    @property
    def timestamp(self) -> dt.datetime:
        """The time of the frame in UTC."""
        return _EPOCH + dt.timedelta(milliseconds=self.timestamp_ms)

    @property
    def timestamp_ms(self) -> int:
        """The time of the frame in UTC epoch milliseconds."""
        return cast(int, self._dataset.manifest.column("timestamp")[self._row].value)

    @property
    def timezone(self) -> str:
        """The IANA time zone of the camera."""
        return cast(str, self._value("timezone"))

    @property
    def local_time(self) -> dt.datetime:
        """The time of the frame in the camera's time zone. Raises DatasetError if this machine has no such zone."""
        try:
            return self.timestamp.astimezone(zoneinfo.ZoneInfo(self.timezone))
        except (LookupError, ValueError, OSError):
            raise DatasetError(f"frame {self.frame_id}: unknown time zone {self.timezone!r:.100}") from None

    @property
    def view(self) -> str:
        return cast(str, self._value("view"))

    @property
    def geometry(self) -> Geometry:
        """The part of the full frame that the image shows, and its downscale."""
        return Geometry(*(self._value(name) for name in schema.GEOMETRY))

    @property
    def width_px(self) -> int:
        return cast(int, self._value("width"))

    @property
    def height_px(self) -> int:
        return cast(int, self._value("height"))

    def to_full(self, x: float, y: float) -> tuple[float, float]:
        """Return a point of the image (in pixels) in permyriads of the camera's full frame."""
        return self.geometry.to_full(x, y, self.width_px, self.height_px)

    def from_full(self, x: float, y: float) -> tuple[float, float]:
        """Return a point of the camera's full frame (in permyriads) in pixels of the image. It may be outside."""
        return self.geometry.from_full(x, y, self.width_px, self.height_px)

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """The annotations of the frame."""
        return self._dataset._annotations_of(self.frame_id)

    def __getattr__(self, name: str) -> Any:
        """Return the value of any other column of the manifest, such as ``luma`` or ``status``."""
        columns = [] if name.startswith("_") else self._dataset.columns
        if name in columns:
            return self._value(name)
        # Python itself asks for private names, which nobody mistyped.
        raise AttributeError(f"a frame has no {name!r}{did_you_mean(name, dir(self)) if columns else ''}")

    def __dir__(self) -> list[str]:
        return [*(name for name in super().__dir__() if not name.startswith("_")), *self._dataset.columns]

    def _value(self, column: str) -> Any:
        return self._dataset.manifest.column(column)[self._row].as_py()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frame) and (self._row, self._dataset.fingerprint, self._dataset.path) == (
            other._row,
            other._dataset.fingerprint,
            other._dataset.path,
        )

    def __hash__(self) -> int:
        return hash((self._row, self._dataset.fingerprint))

    def __repr__(self) -> str:
        return f"Frame({self.frame_id}, {self.camera_name!r}, {utc_text(self.timestamp_ms)}, {self.view!r})"

    def _repr_html_(self) -> str:
        image = data_uri(thumbnail(self.read(), 2 * SHOWN_PX))
        return html("frame.html.j2", frame=self, image=image, width_px=2 * SHOWN_PX)


def sample_of(frame: Frame) -> dict[str, Any]:
    """Return what a model is trained on by default.

    ``image``: uint8, (3, H, W), RGB; ``frame_id``, ``camera_name`` and ``timestamp_ms`` (UTC epoch milliseconds).
    Raises DatasetError as :meth:`Frame.decode`.
    """
    return {
        "image": np.ascontiguousarray(frame.decode().transpose(2, 0, 1)),
        "frame_id": frame.frame_id,
        "camera_name": frame.camera_name,
        "timestamp_ms": frame.timestamp_ms,
    }
