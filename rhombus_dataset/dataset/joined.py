"""Which dataset each row of a joined dataset belongs to."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rhombus_dataset.dataset.frame import Frame
from rhombus_dataset.errors import UsageError

if TYPE_CHECKING:
    from rhombus_dataset.dataset.collection import Dataset


class Joined:
    """Datasets of different folders, whose rows follow each other."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self.datasets = tuple(datasets)
        counts = [dataset.manifest.num_rows for dataset in datasets]
        self._starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).tolist()

    def manifest(self) -> pa.Table:
        """Return the rows of all datasets. A column that only some of them have is null in the others."""
        tables = [dataset.manifest for dataset in self.datasets]
        return pa.concat_tables(tables, promote_options="default").combine_chunks()

    def frame(self, row: int) -> Frame:
        """Return the frame of a row, as a frame of its own dataset."""
        place = bisect.bisect_right(self._starts, row) - 1
        return Frame(self.datasets[place], row - self._starts[place])

    def parts(self, rows: npt.NDArray[np.int64]) -> Iterator[tuple[Dataset, npt.NDArray[np.int64]]]:
        """Yield each dataset with those of ``rows`` that are its own, as its row numbers."""
        place = np.searchsorted(self._starts, rows, side="right") - 1
        for i, (dataset, start) in enumerate(zip(self.datasets, self._starts, strict=True)):
            yield dataset, rows[place == i] - start

    @property
    def fingerprint(self) -> str:
        """16 hex digits that identify all datasets and their order."""
        text = " ".join(dataset.fingerprint for dataset in self.datasets)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def not_one(self) -> UsageError:
        """Return the error for what only a dataset of one folder has: a path, a lock, a name."""
        folders = ", ".join(str(dataset.path) for dataset in self.datasets)
        return UsageError(
            f"these frames are of {len(self.datasets)} datasets ({folders}), and this works on one: do it for each "
            "of them, before they are joined"
        )
