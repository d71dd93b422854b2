"""From a file to a ``Plan``, or to every mistake that the file holds.

Each section, and each camera, view and window, is validated on its own, and what must fit together is checked
on whatever came through, so one mistake hides no other.
"""

from __future__ import annotations

import itertools
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter

from rhombus_dataset.config.validation import Checker, hint_for, shown
from rhombus_dataset.config.yaml_source import Marked, Path_, load_marked
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.plan import local_time, model
from rhombus_dataset.plan.values import Slug

LATER: Final = {
    "events": "expected interval, random, stratified, burst, timestamps or scout; events is not supported yet",
}
_SECRET_NAMES: Final = {"key", "api_key", "apikey", "token", "secret", "password", "x-auth-apikey"}
_STRATEGIES: Final[dict[str, type[BaseModel]]] = {
    "interval": model.IntervalSampling,
    "random": model.RandomSampling,
    "stratified": model.StratifiedSampling,
    "burst": model.BurstSampling,
    "timestamps": model.TimestampsSampling,
    "scout": model.ScoutSampling,
}
_SOURCES: Final[dict[str, type[BaseModel]]] = {
    "rhombus": model.RhombusSource,
    "recordings": model.RecordingsSource,
}
_SPLITS: Final[dict[str, type[BaseModel]]] = {
    "time": model.TimeSplits,
    "camera": model.CameraSplits,
    "location": model.LocationSplits,
    "deployment": model.DeploymentSplits,
    "column": model.ColumnSplits,
}


def load_plan(path: Path, now_ms: int) -> model.Plan:
    """Read and check the plan in a file. ``now_ms``: UTC epoch milliseconds; no window may reach beyond it.

    Paths in the plan are relative to its folder, and absolute in the result. Raises InvalidFile with
    every mistake of the file.
    """
    return PlanReader(load_marked(path), path.parent, now_ms).plan()


class PlanReader:
    def __init__(self, marked: Marked, folder: Path, now_ms: int) -> None:
        self._check = Checker(marked)
        self._refuse = self._check.refuse
        self._value = marked.value
        self._folder = folder
        self._now_ms = now_ms

    def plan(self) -> model.Plan:
        top = self._value
        if not isinstance(top, dict):
            self._refuse((), f"expected a plan, with fields such as version and cameras, got {shown(top)}")
            self._check.refuse_file()
        for key in top:
            if key not in model.Plan.model_fields:
                self._check.unknown((key,), key, model.Plan)
        plain = {name: self._plain(name) for name in ("version", "name", "seed")}
        source = self._source()
        views = self._views()
        cameras = self._cameras(views)
        windows = self._windows(cameras)
        sampling = self._sampling(windows)
        splits = self._splits(cameras)
        dedup = self._dedup()
        output = self._output()
        if self._check.problems:
            self._check.refuse_file()
        return model.Plan.model_construct(
            **plain,
            source=source,
            cameras=tuple(camera for _, camera in cameras),
            views=views,
            windows=tuple(windows),
            sampling=sampling,
            splits=splits,
            dedup=dedup,
            output=output,
        )

    # -- sections

    def _plain(self, name: str) -> Any:
        info = model.Plan.model_fields[name]
        if name not in self._value:
            if info.is_required():
                self._refuse((), f"{name} is missing: expected {_EXPECTED[name]}")
            return info.default
        adapter: TypeAdapter[Any] = TypeAdapter(_annotation(model.Plan, name))
        return self._check.checked((name,), lambda: adapter.validate_python(self._value[name]))

    def _source(self) -> Any:
        raw = self._section("source", "type: rhombus, or type: recordings with a site file")
        if raw is None:
            return None
        auth = raw.get("auth")
        secret = False
        if isinstance(auth, dict):
            for key in [k for k in auth if k.lower() in _SECRET_NAMES]:
                self._refuse(("source", "auth", key), "the key never stands in a plan: set RHOMBUS_API_KEY")
                secret = True
            if secret:
                raw = {**raw, "auth": {k: v for k, v in auth.items() if k.lower() not in _SECRET_NAMES}}
        source = self._tagged(("source",), raw, "type", _SOURCES)
        if isinstance(source, model.RecordingsSource):
            site = self._file(("source", "site"), source.site)
            return source.model_copy(update={"site": site})
        if isinstance(source, model.RhombusSource):
            found = {
                name: self._file(("source", "auth", name), value)
                for name in ("certificate", "certificate_key")
                if (value := getattr(source.auth, name)) is not None
            }
            return source.model_copy(update={"auth": source.auth.model_copy(update=found)})
        return source

    def _views(self) -> dict[str, Geometry]:
        raw = self._value.get("views")
        if raw is None and "views" not in self._value:
            return {"full": Geometry()}
        if not isinstance(raw, dict) or not raw:
            self._refuse(("views",), f"expected views by name, such as full: {{downscale: 2}}, got {shown(raw)}")
            return {}
        views: dict[str, Geometry] = {}
        for name, value in itertools.islice(raw.items(), 1_000):
            slug = self._check.checked(("views", name), lambda n=name: _SLUG.validate_python(n))  # type: ignore[misc]
            view = self._check.valid(("views", name), model.View, {} if value is None else value)
            if view is not None and slug is not None:
                views[name] = view.geometry
        if len(raw) > 1_000:
            self._refuse(("views",), f"expected at most 1,000 views, got {len(raw):,}")
        return views

    def _cameras(self, views: Mapping[str, Geometry]) -> list[tuple[int, model.Camera]]:
        raw = self._list("cameras", 10_000, "a list of cameras, each with uuid and timezone")
        known = self._value.get("views")
        names = list(known) if isinstance(known, dict) and known else ["full"]
        cameras: list[tuple[int, model.Camera]] = []
        uuids: dict[str, int] = {}
        taken: dict[str, int] = {}
        for i, value in enumerate(raw):
            if isinstance(value, dict) and "match" in value:
                self._refuse(("cameras", i, "match"), "match is not supported yet: give the camera's uuid")
                continue
            if isinstance(value, dict) and isinstance(value.get("views"), list):
                for k, name in enumerate(value["views"]):
                    if isinstance(name, str) and name not in names:
                        self._refuse(
                            ("cameras", i, "views", k),
                            f"{shown(name)} is not a view of the plan ({', '.join(names[:8])})"
                            f"{hint_for(name, names)}",
                        )
            camera = self._check.valid(("cameras", i), model.Camera, value)
            if camera is None:
                continue
            for kind, text, seen in (("uuid", camera.uuid, uuids), ("name", camera.name, taken)):
                if text in seen:
                    first = self._check.marked.position(("cameras", seen[text]))[0]
                    self._refuse(("cameras", i, kind), f"{shown(text)} stands twice, first in line {first}")
                seen.setdefault(text, i)
            if isinstance(value, dict) and "views" in value and not camera.views:
                self._refuse(("cameras", i, "views"), "expected at least one view; leave views out for all of them")
            for k, moment in enumerate(camera.deployments):
                if moment.now or local_time.moment_ms(moment, camera.timezone) > self._now_ms:
                    self._refuse(("cameras", i, "deployments", k), "expected a date or time in the past")
            cameras.append((i, camera.model_copy(update={"views": camera.views or tuple(views)})))
        return cameras

    def _windows(self, cameras: list[tuple[int, model.Camera]]) -> list[model.Window]:
        if "windows" not in self._value and self._strategy() == "timestamps":
            return []
        raw = self._list("windows", 1_000, "a list of windows, each with start and end")
        zones = sorted({camera.timezone for _, camera in cameras}) or ["UTC"]
        windows: list[model.Window] = []
        for i, value in enumerate(raw):
            window = self._check.valid(("windows", i), model.Window, value)
            if window is not None and self._window_is_sound(("windows", i), window, zones):
                windows.append(window)
        return windows

    def _window_is_sound(self, path: Path_, window: model.Window, zones: list[str]) -> bool:
        before = len(self._check.problems)
        if window.start.now:
            self._refuse((*path, "start"), "now is only for the end of a window: expected a date or time")
            return False
        bounds = [_bounds_ms(moment, zones, self._now_ms) for moment in (window.start, window.end)]
        # Only what is in the future for every camera is certainly a mistake of the plan.
        for name, (earliest, _) in zip(("start", "end"), bounds, strict=True):
            if earliest > self._now_ms:
                advice = "write end: now" if name == "end" else "footage is only in the past"
                self._refuse((*path, name), f"{shown(self._at((*path, name)))} is in the future: {advice}")
        if len(self._check.problems) > before:
            return False
        if any(a >= b for a, b in zip(*bounds, strict=True)):
            self._refuse(
                (*path, "end"),
                f"the window is empty: end {shown(self._at((*path, 'end')))} is not after "
                f"start {shown(self._at((*path, 'start')))}",
            )
        elif not all(local_time.window_intervals([window], zone, self._now_ms) for zone in zones):
            self._refuse(path, "the window is empty: its daily hours, weekdays and exclusions leave no time")
        return len(self._check.problems) == before

    def _sampling(self, windows: list[model.Window]) -> Any:
        raw = self._section("sampling", "a strategy, such as strategy: interval with every: 5m")
        if raw is None:
            return None
        strategy = raw.get("strategy")
        if isinstance(strategy, str) and strategy in LATER:
            self._refuse(("sampling", "strategy"), LATER[strategy])
            return None
        kind = _STRATEGIES.get(strategy) if isinstance(strategy, str) else None
        counts = ("bursts", "bursts_per_camera") if strategy == "burst" else ("frames", "frames_per_camera")
        if kind is not None and counts[0] in kind.model_fields:
            given = [name for name in counts if raw.get(name) is not None]
            if len(given) != 1:
                what = "both" if given else "neither"
                self._refuse(("sampling",), f"expected either {counts[0]} or {counts[1]}, got {what}")
        sampling = self._tagged(("sampling",), raw, "strategy", _STRATEGIES)
        if isinstance(sampling, model.TimestampsSampling):
            file = self._file(("sampling", "file"), sampling.file)
            if file is not None and file.suffix.lower() not in (".csv", ".parquet"):
                self._refuse(("sampling", "file"), f"expected a .csv or .parquet file, got {shown(file.name)}")
            return sampling.model_copy(update={"file": file})
        return sampling

    def _splits(self, cameras: list[tuple[int, model.Camera]]) -> Any:
        if self._value.get("splits") is None:
            return None
        raw = self._section("splits", "by: time, camera, location, deployment or column, with fractions")
        if raw is None:
            return None
        fractions = raw.get("fractions")
        if isinstance(fractions, dict) and all(_is_number(v) and 0 < v <= 1 for v in fractions.values()):
            total = sum(fractions.values())
            if fractions and abs(total - 1) > 1e-6:
                self._refuse(("splits", "fractions"), f"expected fractions that sum to 1, got {total:g}")
        by = raw.get("by")
        if by == "camera" and isinstance(fractions, dict):
            self._assign(raw.get("assign"), fractions, "camera", self._names(cameras))
            self._enough(fractions, "cameras", len(cameras))
        if by == "location" and isinstance(fractions, dict):
            for i, camera in cameras:
                if not camera.location:
                    self._refuse(("cameras", i), "splits are by location, and this camera has none: give it one")
            places = {camera.location: camera.location for _, camera in cameras if camera.location}
            self._assign(raw.get("assign"), fractions, "location", places)
            self._enough(fractions, "locations", len(places))
        if by == "deployment":
            names = self._names(cameras)
            self._assign(raw.get("assign"), fractions if isinstance(fractions, dict) else {}, "camera", names, "@")
        if by == "column":
            self._assign(raw.get("assign"), fractions if isinstance(fractions, dict) else {}, "value", None)
            sampling = self._value.get("sampling")
            if isinstance(sampling, dict) and sampling.get("strategy") != "timestamps":
                self._refuse(("splits", "by"), "splits by column go with strategy: timestamps, whose file has it")
        return self._tagged(("splits",), raw, "by", _SPLITS)

    def _enough(self, fractions: dict[str, Any], kind: str, count: int) -> None:
        if 0 < count < len(fractions):
            self._refuse(
                ("splits", "fractions"),
                f"{len(fractions)} splits need at least as many {kind}, and the plan has {count}: "
                "name fewer splits, or split by time",
            )

    @staticmethod
    def _names(cameras: list[tuple[int, model.Camera]]) -> dict[str, str]:
        """By what a camera may be called, and which one is meant."""
        known = {camera.name: camera.uuid for _, camera in cameras}
        known |= {camera.uuid: camera.uuid for _, camera in cameras}
        return known | {c.uuid[:22]: c.uuid for _, c in cameras if c.uuid.endswith(".v0")}

    def _assign(
        self, assign: Any, fractions: dict[str, Any], kind: str, known: dict[str, str] | None, part: str = ""
    ) -> None:
        """Check who is assigned to which split; ``known``, if given, tells who is meant by each name, of which
        something may follow after ``part``."""
        if not isinstance(assign, dict):
            return
        seen: dict[str, str] = {}
        for split, assigned in assign.items():
            if split not in fractions:
                self._refuse(
                    ("splits", "assign", split),
                    f"{shown(split)} is not a split ({', '.join(fractions)}){hint_for(split, fractions)}",
                )
            for k, name in enumerate(assigned if isinstance(assigned, list) else []):
                path = ("splits", "assign", split, k)
                whose, at, rest = str(name), "", ""
                if part and known is not None and whose not in known and part in whose:
                    whose, at, rest = whose.rpartition(part)
                meant = whose if known is None else known.get(whose)
                meant = None if meant is None else meant + at + rest
                if meant is None and known is not None:
                    self._refuse(path, f"{shown(name)} is not a {kind} of the plan{hint_for(str(name), known)}")
                elif meant is not None and seen.setdefault(meant, split) != split:
                    self._refuse(path, f"{shown(name)} is assigned to {seen[meant]} already")

    def _dedup(self) -> Any:
        if self._value.get("dedup") is None:
            return None
        raw = self._section("dedup", "how far apart frames may be to repeat each other, such as within: 10m")
        return None if raw is None else self._check.valid(("dedup",), model.Dedup, raw)

    def _output(self) -> Any:
        if self._value.get("output") is None:
            return model.Output()
        raw = self._section("output", "format and frames_per_shard")
        if raw is None:
            return None
        if raw.get("format") == "webdataset":
            self._refuse(("output", "format"), "expected parquet or jpeg; webdataset is not supported yet")
            return None
        return self._check.valid(("output",), model.Output, raw)

    # -- helpers

    def _at(self, path: Path_) -> Any:
        value = self._value
        for step in path:
            value = value[step]
        return value

    def _strategy(self) -> Any:
        sampling = self._value.get("sampling")
        return sampling.get("strategy") if isinstance(sampling, dict) else None

    def _section(self, name: str, expected: str) -> dict[str, Any] | None:
        value = self._value.get(name)
        if isinstance(value, dict):
            return value
        if name not in self._value:
            self._refuse((), f"{name} is missing: expected {expected}")
        else:
            self._refuse((name,), f"expected {expected}, got {shown(value)}")
        return None

    def _list(self, name: str, most: int, expected: str) -> list[Any]:
        value = self._value.get(name)
        if name not in self._value:
            self._refuse((), f"{name} is missing: expected {expected}")
        elif not isinstance(value, list) or not value:
            self._refuse((name,), f"expected {expected}, got {shown(value)}")
        elif len(value) > most:
            self._refuse((name,), f"expected at most {most:,} {name}, got {len(value):,}")
        else:
            return value
        return []

    def _tagged(self, path: Path_, raw: dict[str, Any], tag: str, kinds: Mapping[str, type[BaseModel]]) -> Any:
        chosen = raw.get(tag)
        if isinstance(chosen, str) and chosen in kinds:
            return self._check.valid(path, kinds[chosen], raw)
        names = " or ".join([", ".join(list(kinds)[:-1]), list(kinds)[-1]])
        if tag not in raw:
            self._refuse(path, f"{tag} is missing: expected {names}")
        else:
            hint = hint_for(chosen, kinds) if isinstance(chosen, str) else ""
            self._refuse((*path, tag), f"expected {names}, got {shown(chosen)}{hint}")
        return None

    def _file(self, path: Path_, name: Path) -> Path | None:
        file = (self._folder / name).absolute()
        if not file.is_file():
            self._refuse(path, f"no such file: {file}")
            return None
        return file


_EXPECTED: Final = {"version": "version: 1", "name": "a name for the dataset"}


def _annotation(kind: type[BaseModel], name: str) -> Any:
    return typing.get_type_hints(kind, include_extras=True)[name]


_SLUG: Final[TypeAdapter[str]] = TypeAdapter(Slug)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bounds_ms(moment: model.LocalTime, zones: list[str], now_ms: int) -> tuple[int, int]:
    """The earliest and the latest that a moment is in any of the zones."""
    if moment.now:
        return now_ms, now_ms
    if moment.utc_ms is not None:
        return moment.utc_ms, moment.utc_ms
    found = [local_time.moment_ms(moment, zone) for zone in zones]
    return min(found), max(found)
