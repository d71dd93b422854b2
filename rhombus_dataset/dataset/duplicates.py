"""The list of near-duplicates of a dataset: ``duplicates.parquet``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from rhombus_dataset.errors import DatasetError
from rhombus_dataset.store import layout, tables
from rhombus_dataset.store.files import inside

DUPLICATES: Final = pa.schema([("frame_id", pa.string()), ("repeats", pa.string()), ("apart_ms", pa.int64())])


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
