"""Reading of a built dataset: frames by index, by slice and by any column of the manifest."""

from rhombus_dataset.dataset.collection import Dataset, open_dataset
from rhombus_dataset.dataset.duplicates import DUPLICATES, read_duplicates
from rhombus_dataset.dataset.frame import Frame

__all__ = ["DUPLICATES", "Dataset", "Frame", "open_dataset", "read_duplicates"]
