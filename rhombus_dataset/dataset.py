"""Reading of a built dataset: frames by index, by slice and by any column of the manifest.

An image is read only when it is used, without the images around it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import zoneinfo
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast, overload

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from rhombus_dataset.errors import DatasetError, UsageError
from rhombus_dataset.frame import Status
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.html.render import data_uri, html
from rhombus_dataset.imaging.jpeg import DamagedImage, Scale, decode_rgb, thumbnail
from rhombus_dataset.planning.lock import Lock
from rhombus_dataset.planning.lock_file import load_lock
from rhombus_dataset.store import layout, manifest, schema, tables
from rhombus_dataset.store.annotations import Annotation, read_annotations
from rhombus_dataset.store.files import inside
from rhombus_dataset.store.images import ImageReader
from rhombus_dataset.store.row_filter import matching_rows, uses_column

DUPLICATES: Final = pa.schema([("frame_id", pa.string()), ("repeats", pa.string()), ("apart_ms", pa.int64())])
_SHOWN_FRAMES: Final = 8
_SHOWN_PX: Final = 200


def open_dataset(path: str | os.PathLike[str], *, duplicates: bool = False) -> Dataset:
    """Return the dataset in a folder: all its frames with status `ok`, in the order of the manifest.

    Frames that are listed as near-duplicates of another frame are left out, unless ``duplicates`` is true. While a
    dataset is being built, it has the frames committed so far. Raises DatasetError if the folder has no dataset.
    """
    return Dataset(Path(path), duplicates=duplicates)


def read_duplicates(path: Path) -> pa.Table:
    """Return the near-duplicates of a dataset: `frame_id`, `repeats` (id of the frame that it repeats), `apart_ms`.

    Raises DatasetError if the list is damaged.
    """
    file = inside(path, layout.DUPLICATES_FILE)
    if not file.exists():
        return DUPLICATES.empty_table()
    try:
        table = tables.read_table(file).cast(DUPLICATES)
        for name in ("frame_id", "repeats"):
            is_id = pc.fill_null(pc.match_substring_regex(table.column(name), "^[0-9a-f]{20}$"), False)
            if not pc.all(is_id, min_count=0).as_py():
                raise ValueError(f"{name}: expected 20 hex digits")
        return table
    except DatasetError as error:
        raise DatasetError(f"{error}. Run the build again") from None
    except (ValueError, pa.ArrowException) as error:
        raise DatasetError(f"{file}: wrong columns ({tables.short(error)}). Run the build again") from None


class Dataset(Sequence["Frame"]):
    """The frames of a dataset with status `ok`, or some of them.

    Supports ``len``, iteration, ``dataset[5]`` (a :class:`Frame`), and ``dataset[10:20]`` and ``dataset[[3, 1]]``
    (a Dataset); :meth:`filter` selects by the manifest's columns. Immutable. Safe to use from several threads and
    in forked or spawned processes. It is pickled as its path and the numbers of its rows.
    """

    def __init__(self, path: Path, *, duplicates: bool = False) -> None:
        self._path = path
        self._lock: Lock | None = None
        table, headers = manifest.read_manifest_and_headers(path)
        self._manifest = table.combine_chunks()
        self._fingerprint = _fingerprint(headers)
        self._images = ImageReader(path)
        self._annotations: pa.Table | None = None  # of the whole dataset, sorted by frame_id
        self._annotated: npt.NDArray[np.str_] | None = None  # frame_id of each annotation
        is_ok = pc.equal(self._manifest.column("status"), str(Status.OK))
        if not duplicates and len(repeats := read_duplicates(path)):
            is_new = pc.invert(pc.is_in(self._manifest.column("frame_id"), repeats.column("frame_id")))
            is_ok = pc.and_(is_ok, is_new)
        self._rows: npt.NDArray[np.int64] = np.flatnonzero(np.asarray(is_ok))

    @property
    def path(self) -> Path:
        """The dataset's folder."""
        return self._path

    @property
    def name(self) -> str:
        """The dataset's name in its plan."""
        return self.lock.name

    @property
    def lock(self) -> Lock:
        """The dataset's resolved plan. Raises DatasetError if it is damaged."""
        if self._lock is None:
            self._lock = load_lock(self._path)
        return self._lock

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the SHA-256 of the headers of the manifest's slices. They identify the dataset."""
        return self._fingerprint

    @property
    def manifest(self) -> pa.Table:
        """The manifest of the whole dataset: one row for each planned frame, of any status."""
        return self._manifest

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> Frame: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | npt.NDArray[Any]) -> Dataset: ...
    def __getitem__(
        self, index: int | np.integer[Any] | slice | Sequence[int] | npt.NDArray[Any]
    ) -> Frame | Dataset:
        if isinstance(index, int | np.integer):
            try:
                return Frame(self, int(self._rows[index]))
            except IndexError:
                raise IndexError(f"frame {int(index)} of {len(self)}") from None
        # NumPy makes an empty list an array of floats, which is no index.
        chosen = index if isinstance(index, slice) or len(index) else np.empty(0, np.int64)
        return self._part(self._rows[chosen])

    def __iter__(self) -> Iterator[Frame]:
        return (Frame(self, row) for row in self._rows.tolist())

    def filter(self, condition: str | pc.Expression) -> Dataset:
        """Return the frames for which a condition on the manifest's columns is true. No image is read.

        ``condition``: a text (``"luma > 40 and camera_name == 'dock-north'"``) or an Arrow expression
        (``pc.field("luma") > 40``). A text can compare columns with ``== != < <= > >= in``, combine comparisons
        with ``and or not`` and parentheses, and use ``.str.startswith('x')``, ``.str.endswith('x')``,
        ``.str.contains('x')``, ``.isna()`` and ``.notna()``. It is never executed. As in
        pandas, a comparison with a missing value is false, and ``!=``, ``not in`` and ``not`` are true. Raises
        UsageError if the condition cannot be evaluated, or if only frames with a status other than `ok` match it:
        these are not opened.
        """
        table = self.to_arrow()
        if isinstance(condition, str):
            kept = np.flatnonzero(np.asarray(matching_rows(table, condition)))
            is_of_others = not len(kept) and len(table) and uses_column(condition, "status")
            if is_of_others and np.asarray(matching_rows(self._manifest, condition)).any():
                raise UsageError(
                    f"the condition {condition!r:.200} matches rows without an image only: a dataset opens frames "
                    "of status ok. The rows of all frames are in `dataset.manifest`"
                )
            return self._part(self._rows[kept])
        try:
            numbered = table.append_column("place", pa.array(np.arange(len(self))))
            kept = numbered.filter(condition).column("place").to_numpy()
        except Exception as error:
            # For a wrong expression, Arrow raises many types of exceptions.
            raise UsageError(
                f"the condition {str(condition)!r} cannot be evaluated: {type(error).__name__}: "
                f"{str(error).splitlines()[0][:200]}. The columns are {', '.join(table.column_names)}"
            ) from None
        return self._part(self._rows[kept])

    def split(self, name: str) -> Dataset:
        """Return the frames of one split. Raises UsageError if there is no such split."""
        if name not in self.splits:
            raise UsageError(f"no split {name!r}: the splits are {', '.join(self.splits)}")
        return self.filter(pc.field("split") == name)

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits of these frames, in the order of the rows."""
        return tuple(cast(list[str], pc.unique(self.to_arrow().column("split")).to_pylist()))

    def to_arrow(self, *, images: bool = False) -> pa.Table:
        """Return the manifest's rows of these frames. With ``images``, also a column `image` (bytes and path)."""
        table = self._manifest
        if len(self._rows) < table.num_rows:
            table = table.take(pa.array(self._rows))
        if images:
            content = [{"bytes": frame.read(), "path": f"{frame.frame_id}.jpg"} for frame in self]
            table = table.append_column(schema.IMAGE, pa.array(content, schema.IMAGE.type))
        return table

    def to_pandas(self) -> pd.DataFrame:
        """Return the manifest's rows of these frames."""
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame

    def annotations(self) -> pa.Table:
        """Return the annotations of these frames: one row for each box or class (see :class:`Annotation`)."""
        table = self._all_annotations
        if not table.num_rows:
            return table
        return table.filter(pc.is_in(table.column("frame_id"), self.to_arrow().column("frame_id")))

    @property
    def _all_annotations(self) -> pa.Table:
        if self._annotations is None:
            table = read_annotations(self._path)
            self._annotations = table.take(pc.sort_indices(table, [("frame_id", "ascending")]))
        return self._annotations

    def _annotations_of(self, frame_id: str) -> tuple[Annotation, ...]:
        table = self._all_annotations
        if self._annotated is None:
            self._annotated = np.asarray(table.column("frame_id").to_pylist(), "U20")
        start, stop = (int(np.searchsorted(self._annotated, frame_id, side)) for side in ("left", "right"))
        return tuple(Annotation(**row) for row in table.slice(start, stop - start).to_pylist())

    def watched(self, on_read: Callable[[], None]) -> Dataset:
        """Return the same frames. ``on_read`` is called before each image that is read through them."""
        part = self._part(self._rows)
        part._images = ImageReader(self._path, on_read)
        return part

    def _part(self, rows: npt.NDArray[np.int64]) -> Dataset:
        part = object.__new__(Dataset)
        part.__dict__.update(self.__dict__)
        part._rows = rows
        return part

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._path, self._fingerprint, self._rows)

    def __repr__(self) -> str:
        return f"Dataset({str(self._path)!r}, {len(self):,} frames)"

    def _repr_html_(self) -> str:
        step = max(1, len(self) // _SHOWN_FRAMES)
        shown = [self[i] for i in range(0, len(self), step)][:_SHOWN_FRAMES]
        statuses = pc.value_counts(self._manifest.column("status")).to_pylist()
        return html(
            "dataset.html.j2",
            dataset=self,
            outcomes={count["values"]: count["counts"] for count in statuses},
            images=[(frame, data_uri(thumbnail(frame.read(), _SHOWN_PX))) for frame in shown],
            width_px=_SHOWN_PX,
        )


def _reopen(path: Path, fingerprint: str, rows: npt.NDArray[np.int64]) -> Dataset:
    dataset = open_dataset(path)
    if dataset.fingerprint != fingerprint:
        raise DatasetError(f"{path}: changed after the dataset was opened: open the dataset again")
    return dataset._part(rows)


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
        return f"Frame({self.frame_id}, {self.camera_name!r}, {self.timestamp:%FT%T.%fZ}, {self.view!r})"

    def _repr_html_(self) -> str:
        image = data_uri(thumbnail(self.read(), 2 * _SHOWN_PX))
        return html("frame.html.j2", frame=self, image=image, width_px=2 * _SHOWN_PX)


_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def _fingerprint(headers: list[manifest.SliceHeader]) -> str:
    digest = hashlib.sha256()
    for header in headers:
        digest.update(f"{header.shard} {header.data_sha256} {header.content_sha256}\n".encode())
    return digest.hexdigest()[:16]
