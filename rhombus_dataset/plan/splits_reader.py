"""Reading of the section ``splits`` of a plan, and checks of it against the plan's cameras."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from rhombus_dataset.config.validation import shown
from rhombus_dataset.errors import did_you_mean
from rhombus_dataset.plan import model
from rhombus_dataset.plan.section_reader import SectionReader

IndexedCameras = list[tuple[int, model.Camera]]
"""The valid cameras, each with its index in the plan's list."""
_SPLITS: Final[dict[str, type[BaseModel]]] = {
    "time": model.TimeSplits,
    "camera": model.CameraSplits,
    "location": model.LocationSplits,
    "deployment": model.DeploymentSplits,
    "column": model.ColumnSplits,
}


def read_splits(reader: SectionReader, cameras: IndexedCameras) -> Any:
    """Return the splits of a plan; None without them, or after noting their errors in ``reader``."""
    if reader.value.get("splits") is None:
        return None
    raw = reader.section("splits", "by: time, camera, location, deployment or column, with fractions")
    if raw is None:
        return None
    has_fractions = isinstance(raw.get("fractions"), dict)
    fractions: dict[str, Any] = raw["fractions"] if has_fractions else {}
    _check_sum(reader, fractions)
    splits = list(fractions)
    assign = _Assignment(reader, raw.get("assign"), splits)
    match raw.get("by"):
        case "camera" if has_fractions:
            assign.check("camera", _camera_names(cameras))
            _check_count(reader, splits, "cameras", len(cameras))
        case "location" if has_fractions:
            for i, camera in cameras:
                if not camera.location:
                    reader.refuse(("cameras", i), "location is missing: splits are by location")
            locations = {camera.location: camera.location for _, camera in cameras if camera.location}
            assign.check("location", locations)
            _check_count(reader, splits, "locations", len(locations))
        case "deployment":
            assign.check("camera", _camera_names(cameras), separator="@")
        case "column":
            assign.check("value", None)
            sampling = reader.value.get("sampling")
            if isinstance(sampling, dict) and sampling.get("strategy") != "timestamps":
                reader.refuse(
                    ("splits", "by"), "splits by column need strategy: timestamps, whose file has the column"
                )
    return reader.tagged(("splits",), raw, "by", _SPLITS)


def _check_sum(reader: SectionReader, fractions: dict[str, Any]) -> None:
    if fractions and all(_is_number(value) and 0 < value <= 1 for value in fractions.values()):
        total = sum(fractions.values())
        if abs(total - 1) > 1e-6:
            reader.refuse(("splits", "fractions"), f"expected fractions that sum to 1, got {total:g}")


def _check_count(reader: SectionReader, splits: list[str], kind: str, count: int) -> None:
    if 0 < count < len(splits):
        reader.refuse(
            ("splits", "fractions"),
            f"{len(splits)} splits need at least as many {kind}, and the plan has {count}: "
            "use fewer splits, or splits by time",
        )


def _camera_names(cameras: IndexedCameras) -> dict[str, str]:
    """Return the UUID by each name that a plan may use for a camera: name, UUID, UUID without ``.v0``."""
    known = {camera.name: camera.uuid for _, camera in cameras}
    known |= {camera.uuid: camera.uuid for _, camera in cameras}
    return known | {c.uuid[:22]: c.uuid for _, c in cameras if c.uuid.endswith(".v0")}


class _Assignment:
    """The field ``assign``: names (of cameras, locations or values of a column) by split."""

    def __init__(self, reader: SectionReader, assign: Any, splits: list[str]) -> None:
        self._reader = reader
        self._assign = assign if isinstance(assign, dict) else {}
        self._splits = splits

    def check(self, kind: str, known: dict[str, str] | None, separator: str = "") -> None:
        """Note unknown splits, unknown names and names that are assigned twice.

        ``known``: an id by each known name; None if every name is valid. ``separator``: where given, it and more
        text may follow a known name.
        """
        seen: dict[str, str] = {}
        for split, names in self._assign.items():
            if split not in self._splits:
                self._reader.refuse(
                    ("splits", "assign", split),
                    f"{shown(split)} is not a split ({', '.join(self._splits)}){did_you_mean(split, self._splits)}",
                )
            for k, name in enumerate(names if isinstance(names, list) else []):
                path = ("splits", "assign", split, k)
                found = str(name) if known is None else _resolved(str(name), known, separator)
                if found is None:
                    hint = did_you_mean(str(name), known or ())
                    self._reader.refuse(path, f"{shown(name)} is not a {kind} of the plan{hint}")
                elif seen.setdefault(found, split) != split:
                    self._reader.refuse(path, f"{shown(name)} is already assigned to {seen[found]}")


def _resolved(name: str, known: dict[str, str], separator: str) -> str | None:
    """Return the id of a name, with the separator and the text after it, or None if it is not known."""
    rest = ""
    if separator and name not in known and separator in name:
        name, at, rest = name.rpartition(separator)
        rest = at + rest
    return None if name not in known else known[name] + rest


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
