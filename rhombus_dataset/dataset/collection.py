"""The frames of a dataset: by index, by slice and by any column of the manifest.

An image is read only when it is used, without the images around it.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from rhombus_dataset.dataset.duplicates import read_duplicates
from rhombus_dataset.dataset.frame import SHOWN_PX, Frame, sample_of
from rhombus_dataset.dataset.joined import Joined
from rhombus_dataset.dataset.ordered_map import ordered_map
from rhombus_dataset.errors import DatasetError, UsageError, did_you_mean
from rhombus_dataset.frame import Status
from rhombus_dataset.hashing import hash_key, hashes
from rhombus_dataset.html.render import data_uri, html
from rhombus_dataset.imaging.jpeg import thumbnail
from rhombus_dataset.planning.lock import Lock
from rhombus_dataset.planning.lock_file import load_lock
from rhombus_dataset.store import manifest, schema
from rhombus_dataset.store.annotations import Annotation, read_annotations
from rhombus_dataset.store.images import ImageReader
from rhombus_dataset.store.row_filter import matching_rows, uses_column

_SHOWN_FRAMES: Final = 8

T = TypeVar("T")


def open_dataset(path: str | os.PathLike[str], *, duplicates: bool = False) -> Dataset:
    """Return the dataset in a folder: all its frames with status `ok`, in the order of the manifest.

    Frames that are listed as near-duplicates of another frame are left out, unless ``duplicates`` is true. While a
    dataset is being built, it has the frames committed so far. Raises DatasetError if the folder has no dataset.
    """
    return Dataset(Path(path), duplicates=duplicates)


class Dataset(Sequence["Frame"]):
    """The frames of a dataset with status `ok`, or some of them.

    Supports ``len`` and iteration. ``dataset[5]`` is a :class:`Frame`, ``dataset[10:20]`` and ``dataset["train"]``
    (a split) are datasets, and ``dataset["luma"]`` is the column of that name as a list. ``a + b`` has the frames
    of both. They may be of different folders; then ``path``, ``name`` and ``lock`` raise UsageError. Immutable:
    every method returns a new dataset. Safe to use from several threads and in forked or spawned processes. It is
    pickled as its path and the numbers of its rows.
    """

    def __init__(self, path: Path, *, duplicates: bool = False) -> None:
        self._path = path
        self._joined: Joined | None = None  # with datasets of other folders
        self._lock: Lock | None = None
        table, headers = manifest.read_manifest_and_headers(path)
        self._manifest = table.combine_chunks()
        self._fingerprint = manifest.fingerprint(headers)
        self._images = ImageReader(path)
        self._annotations: pa.Table | None = None  # of the whole dataset, sorted by frame_id
        self._annotated: npt.NDArray[np.str_] | None = None  # frame_id of each annotation
        self._sizes: collections.Counter[tuple[str, int, int]] | None = None  # of these frames
        is_ok = pc.equal(self._manifest.column("status"), str(Status.OK))
        if not duplicates and len(repeats := read_duplicates(path)):
            is_new = pc.invert(pc.is_in(self._manifest.column("frame_id"), repeats.column("frame_id")))
            is_ok = pc.and_(is_ok, is_new)
        self._rows: npt.NDArray[np.int64] = np.flatnonzero(np.asarray(is_ok))

    @property
    def path(self) -> Path:
        """The dataset's folder."""
        if self._joined is not None:
            raise self._joined.not_one()
        return self._path

    @property
    def name(self) -> str:
        """The dataset's name in its plan."""
        return self.lock.name

    @property
    def lock(self) -> Lock:
        """The dataset's resolved plan. Raises DatasetError if it is damaged."""
        if self._lock is None:
            self._lock = load_lock(self.path)
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
    @overload
    def __getitem__(self, index: str) -> Any: ...
    def __getitem__(self, index: int | np.integer[Any] | slice | Sequence[int] | npt.NDArray[Any] | str) -> Any:
        """See the class. Raises IndexError, and UsageError for a name that is neither a split nor a column."""
        if isinstance(index, str):
            return self._named(index)
        if isinstance(index, int | np.integer):
            try:
                return self._frame(int(self._rows[index]))
            except IndexError:
                raise IndexError(f"frame {int(index)} of {len(self)}") from None
        # NumPy makes an empty list an array of floats, which is no index.
        chosen = index if isinstance(index, slice) or len(index) else np.empty(0, np.int64)
        return self._part(self._rows[chosen])

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return samples for the batches of a PyTorch DataLoader, which calls this with the indices of a batch.

        A sample has ``image`` (uint8, (3, H, W), RGB), ``frame_id``, ``camera_name`` and ``timestamp_ms`` (UTC).
        Raises UsageError if the images have several sizes: those of a batch must be equal.
        """
        if self._sizes is None:
            self._sizes = self._count_sizes()
        sizes = self._sizes
        if len(sizes) > 1:
            listed = ", ".join(f"{n:,} of {view} with {w} x {h}" for (view, w, h), n in sizes.most_common(5))
            raise UsageError(
                f"images of {len(sizes)} sizes cannot be in one batch ({listed}). Select one view by filter(), or "
                "use rhombus_dataset.pytorch.FrameDataset with a function that resizes"
            )
        return [sample_of(frame) for frame in self[indices]]

    def _count_sizes(self) -> collections.Counter[tuple[str, int, int]]:
        """Return the number of frames by view, width and height."""
        names = ["view", "width", "height"]
        columns = pa.table({name: self._column(name) for name in names})
        rows = columns.group_by(names).aggregate([([], "count_all")]).to_pylist()
        return collections.Counter({(r["view"], r["width"], r["height"]): r["count_all"] for r in rows})

    def _named(self, name: str) -> Dataset | list[Any]:
        if name in self.splits:
            if name in self.columns:
                raise UsageError(f'{name!r} is a split and a column: use filter("split == {name!r}")')
            return self.filter(pc.field("split") == name)
        if name in self.columns:
            return cast(list[Any], self._column(name).to_pylist())
        raise UsageError(
            f"no split or column {name!r}{did_you_mean(name, [*self.splits, *self.columns]) or '.'} "
            f"The splits are {', '.join(self.splits)}; the columns are {', '.join(self.columns)}"
        )

    def __iter__(self) -> Iterator[Frame]:
        return (self._frame(row) for row in self._rows.tolist())

    def _frame(self, row: int) -> Frame:
        return Frame(self, row) if self._joined is None else self._joined.frame(row)

    def __add__(self, other: Dataset) -> Dataset:
        """Return the frames of both, in this order: of two parts of one dataset, or of several datasets."""
        if not isinstance(other, Dataset):
            return NotImplemented
        if self._sources() == other._sources():
            return self._part(np.concatenate([self._rows, other._rows]))
        both = [
            dataset for part in (self, other) for dataset in (part._joined.datasets if part._joined else [part])
        ]
        rows = np.concatenate([self._rows, other._rows + self._manifest.num_rows])
        return self._part(rows)._join(both)

    def _sources(self) -> list[tuple[Path, str]]:
        """Return folder and fingerprint of each dataset that the rows are of."""
        datasets = [self] if self._joined is None else self._joined.datasets
        return [(dataset._path, dataset._fingerprint) for dataset in datasets]

    def _join(self, datasets: Sequence[Dataset]) -> Dataset:
        self._joined = Joined(datasets)
        self._manifest, self._fingerprint = self._joined.manifest(), self._joined.fingerprint
        self._lock = self._annotations = self._annotated = None
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the manifest's columns."""
        return tuple(self._manifest.column_names)

    @property
    def features(self) -> dict[str, pa.DataType]:
        """The Arrow type of each column."""
        return {field.name: field.type for field in self._manifest.schema}

    @property
    def shape(self) -> tuple[int, int]:
        """The number of frames and of columns."""
        return len(self), self._manifest.num_columns

    def get(self, frame_id: str) -> Frame:
        """Return the frame with an id. Raises UsageError if it is not among these frames, with the reason."""
        rows = np.flatnonzero(np.asarray(pc.equal(self._manifest.column("frame_id"), frame_id)))
        if not len(rows):
            raise UsageError(f"no frame {frame_id!r:.60} in {', '.join(str(path) for path, _ in self._sources())}")
        if not len(here := rows[np.isin(rows, self._rows)]):
            status = self._manifest.column("status")[rows[0]].as_py()
            reason = "it is not in this part of the dataset" if status == Status.OK else f"its status is {status}"
            raise UsageError(f"frame {frame_id}: {reason}")
        return self._frame(int(here[0]))

    def head(self, count: int = 5) -> pd.DataFrame:
        """Return the manifest's rows of the first frames, to look at."""
        return self[:count].to_pandas()

    def take(self, count: int) -> Dataset:
        """Return the first frames."""
        return self[:count]

    def select(self, indices: Iterable[int]) -> Dataset:
        """Return the frames at these places, in this order: a list, a range, an array. Raises IndexError."""
        return self[np.fromiter(indices, np.int64)]

    def shuffle(self, seed: int = 0) -> Dataset:
        """Return the frames in a random order that depends on ``seed`` and their number only."""
        order = np.argsort(hashes(hash_key(seed, "reader"), np.arange(len(self))), kind="stable")
        return self[order]

    def sample(self, count: int, seed: int = 0) -> Dataset:
        """Return ``count`` random frames, or all if there are fewer. More of them begin with the same ones."""
        return self.shuffle(seed)[:count]

    def sort(self, by: str, *, descending: bool = False) -> Dataset:
        """Return the frames ordered by a column. Equal values keep their order, and missing ones come last."""
        self._check_column(by)
        order = "descending" if descending else "ascending"
        table = pa.table({by: self._column(by)})
        return self[np.asarray(pc.sort_indices(table, [(by, order)]), np.int64)]

    def unique(self, column: str) -> list[Any]:
        """Return the different values of a column, in the order of the frames."""
        self._check_column(column)
        return cast(list[Any], pc.unique(self._column(column)).to_pylist())

    def value_counts(self, column: str) -> pd.Series[int]:
        """Return how many frames have each value of a column, the commonest first."""
        self._check_column(column)
        counts: pd.Series[int] = self._column(column).to_pandas().rename(column).value_counts(dropna=False)
        return counts

    def map(self, function: Callable[[Frame], T], *, workers: int = 8) -> Iterator[T]:
        """Return an iterator over ``function(frame)`` for each frame, in the order of the frames.

        It runs in ``workers`` threads, which suits reading and decoding. Memory is bounded: as results are used,
        further frames are worked on. Raises UsageError for no workers.
        """
        if workers < 1:
            raise UsageError(f"workers: expected at least 1, got {workers}")
        return ordered_map(function, self, workers)

    def _column(self, name: str) -> pa.ChunkedArray:
        """Return a column of the manifest for these frames, without the other columns."""
        return self._manifest.column(name).take(pa.array(self._rows))

    def _check_column(self, name: str) -> None:
        if name not in self.columns:
            hint = did_you_mean(name, self.columns) or f": the columns are {', '.join(self.columns)}"
            raise UsageError(f"no column {name!r}{hint}")

    def filter(self, condition: str | pc.Expression | Callable[[Frame], object]) -> Dataset:
        """Return the frames for which a condition is true.

        ``condition``: a text (``"luma > 40 and camera_name == 'dock-north'"``), an Arrow expression
        (``pc.field("luma") > 40``), or a function of a frame (``lambda frame: frame.local_time.hour < 8``). For the
        first two, no image is read. A text can compare columns with ``== != < <= > >= in``, combine comparisons
        with ``and or not`` and parentheses, and use ``.str.startswith('x')``, ``.str.endswith('x')``,
        ``.str.contains('x')``, ``.isna()`` and ``.notna()``. It is never executed. As in
        pandas, a comparison with a missing value is false, and ``!=``, ``not in`` and ``not`` are true. Raises
        UsageError if the condition cannot be evaluated, or if only frames with a status other than `ok` match it:
        these are not opened.
        """
        if callable(condition):
            return self[np.array([i for i, frame in enumerate(self) if condition(frame)], np.int64)]
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

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits of these frames, in the order of the rows."""
        return tuple(cast(list[str], pc.unique(self._column("split")).to_pylist()))

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
        if self._joined is not None:
            parts = self._joined.parts(self._rows)
            return pa.concat_tables([dataset._part(rows).annotations() for dataset, rows in parts])
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
        if self._joined is not None:
            return part._join([dataset.watched(on_read) for dataset in self._joined.datasets])
        part._images = ImageReader(self._path, on_read)
        return part

    def _part(self, rows: npt.NDArray[np.int64]) -> Dataset:
        part = object.__new__(Dataset)
        part.__dict__.update(self.__dict__)
        part._rows = rows
        part._sizes = None
        return part

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._sources(), self._rows)

    def __repr__(self) -> str:
        folders = " + ".join(repr(str(path)) for path, _ in self._sources())
        return f"Dataset({folders}, {len(self):,} frames)"

    def _repr_html_(self) -> str:
        step = max(1, len(self) // _SHOWN_FRAMES)
        shown = [self[i] for i in range(0, len(self), step)][:_SHOWN_FRAMES]
        statuses = pc.value_counts(self._manifest.column("status")).to_pylist()
        return html(
            "dataset.html.j2",
            dataset=self,
            name=self.name if self._joined is None else " + ".join(d.name for d in self._joined.datasets),
            outcomes={count["values"]: count["counts"] for count in statuses},
            images=[(frame, data_uri(thumbnail(frame.read(), SHOWN_PX))) for frame in shown],
            width_px=SHOWN_PX,
        )


def _reopen(sources: list[tuple[Path, str]], rows: npt.NDArray[np.int64]) -> Dataset:
    datasets = [open_dataset(path) for path, _ in sources]
    for dataset, (path, fingerprint) in zip(datasets, sources, strict=True):
        if dataset.fingerprint != fingerprint:
            raise DatasetError(f"{path}: changed after the dataset was opened: open the dataset again")
    part = datasets[0]._part(rows)
    return part if len(datasets) == 1 else part._join(datasets)
