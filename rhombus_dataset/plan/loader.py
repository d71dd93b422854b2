"""Reading of a plan file, with all its errors at once.

Each section, camera, view and window is validated separately. Then the valid ones are checked against each other.
So no error hides another one.
"""

from __future__ import annotations

import itertools
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter

from rhombus_dataset.config.validation import Checker, shown
from rhombus_dataset.config.yaml_source import FieldPath, Marked, load_marked
from rhombus_dataset.errors import did_you_mean
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.plan import local_time, model
from rhombus_dataset.plan.section_reader import SectionReader
from rhombus_dataset.plan.splits_reader import IndexedCameras, read_splits
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


def load_plan(path: Path, now_ms: int) -> model.Plan:
    """Return the plan in a file. Raises InvalidFile with all its errors.

    ``now_ms``: UTC epoch milliseconds; no window may be later. Paths in the file are relative to its folder; those
    of the plan are absolute.
    """
    return PlanReader(load_marked(path), path.parent, now_ms).plan()


class PlanReader:
    """Reads one plan. See :func:`load_plan` for its arguments."""

    def __init__(self, marked: Marked, folder: Path, now_ms: int) -> None:
        self._check = Checker(marked)
        self._refuse = self._check.refuse
        self._value = marked.value
        self._sections = SectionReader(self._check, marked.value, folder)
        self._now_ms = now_ms

    def plan(self) -> model.Plan:
        """Return the plan. Raises InvalidFile with all errors."""
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
        splits = read_splits(self._sections, cameras)
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
        raw = self._sections.section("source", "type: rhombus, or type: recordings with a site file")
        if raw is None:
            return None
        auth = raw.get("auth")
        secret = False
        if isinstance(auth, dict):
            for key in [k for k in auth if k.lower() in _SECRET_NAMES]:
                self._refuse(
                    ("source", "auth", key),
                    "a key must not be in a plan: set the environment variable RHOMBUS_API_KEY",
                )
                secret = True
            if secret:
                raw = {**raw, "auth": {k: v for k, v in auth.items() if k.lower() not in _SECRET_NAMES}}
        source = self._sections.tagged(("source",), raw, "type", _SOURCES)
        if isinstance(source, model.RecordingsSource):
            site = self._sections.file(("source", "site"), source.site)
            return source.model_copy(update={"site": site})
        if isinstance(source, model.RhombusSource):
            found = {
                name: self._sections.file(("source", "auth", name), value)
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

    def _cameras(self, views: Mapping[str, Geometry]) -> IndexedCameras:
        raw = self._sections.items("cameras", 10_000, "a list of cameras, each with uuid and timezone")
        known = self._value.get("views")
        names = list(known) if isinstance(known, dict) and known else ["full"]
        cameras: IndexedCameras = []
        uuids: dict[str, int] = {}
        taken: dict[str, int] = {}
        for i, value in enumerate(raw):
            if isinstance(value, dict) and "match" in value:
                self._refuse(("cameras", i, "match"), "match is not supported yet: give the camera's uuid")
                continue
            camera = self._camera(i, value, names)
            if camera is None:
                continue
            for kind, text, seen in (("uuid", camera.uuid, uuids), ("name", camera.name, taken)):
                if text in seen:
                    first = self._check.marked.position(("cameras", seen[text]))[0]
                    self._refuse(("cameras", i, kind), f"duplicate {kind} {shown(text)}, first in line {first}")
                seen.setdefault(text, i)
            cameras.append((i, camera.model_copy(update={"views": camera.views or tuple(views)})))
        return cameras

    def _camera(self, i: int, value: Any, view_names: list[str]) -> model.Camera | None:
        given = value.get("views") if isinstance(value, dict) else None
        for k, name in enumerate(given if isinstance(given, list) else []):
            if isinstance(name, str) and name not in view_names:
                self._refuse(
                    ("cameras", i, "views", k),
                    f"{shown(name)} is not a view of the plan ({', '.join(view_names[:8])})"
                    f"{did_you_mean(name, view_names)}",
                )
        camera = self._check.valid(("cameras", i), model.Camera, value)
        if camera is None:
            return None
        if "views" in value and not camera.views:
            self._refuse(("cameras", i, "views"), "expected at least one view; leave views out for all of them")
        for k, moment in enumerate(camera.deployments):
            if moment.now or local_time.moment_ms(moment, camera.timezone) > self._now_ms:
                self._refuse(("cameras", i, "deployments", k), "expected a date or time in the past")
        return camera

    def _windows(self, cameras: IndexedCameras) -> list[model.Window]:
        if "windows" not in self._value and self._strategy() == "timestamps":
            return []
        raw = self._sections.items("windows", 1_000, "a list of windows, each with start and end")
        zones = sorted({camera.timezone for _, camera in cameras}) or ["UTC"]
        windows: list[model.Window] = []
        for i, value in enumerate(raw):
            window = self._check.valid(("windows", i), model.Window, value)
            if window is not None and self._window_is_valid(("windows", i), window, zones):
                windows.append(window)
        return windows

    def _window_is_valid(self, path: FieldPath, window: model.Window, zones: list[str]) -> bool:
        before = len(self._check.problems)
        if window.start.now:
            self._refuse((*path, "start"), "expected a date or time, got now: only the end of a window can be now")
            return False
        bounds = [_bounds_ms(moment, zones, self._now_ms) for moment in (window.start, window.end)]
        # An error only if the time is in the future for every camera, whatever its zone.
        for name, (earliest, _) in zip(("start", "end"), bounds, strict=True):
            if earliest > self._now_ms:
                advice = "write end: now" if name == "end" else "there is no footage of the future"
                self._refuse((*path, name), f"{shown(self._sections.at((*path, name)))} is in the future: {advice}")
        if len(self._check.problems) > before:
            return False
        if any(a >= b for a, b in zip(*bounds, strict=True)):
            self._refuse(
                (*path, "end"),
                f"the window is empty: end {shown(self._sections.at((*path, 'end')))} is not after "
                f"start {shown(self._sections.at((*path, 'start')))}",
            )
        elif not all(local_time.window_intervals([window], zone, self._now_ms) for zone in zones):
            self._refuse(path, "the window is empty: its daily hours, weekdays and exclusions leave no time")
        return len(self._check.problems) == before

    def _sampling(self, windows: list[model.Window]) -> Any:
        raw = self._sections.section("sampling", "a strategy, such as strategy: interval with every: 5m")
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
        sampling = self._sections.tagged(("sampling",), raw, "strategy", _STRATEGIES)
        if isinstance(sampling, model.TimestampsSampling):
            file = self._sections.file(("sampling", "file"), sampling.file)
            if file is not None and file.suffix.lower() not in (".csv", ".parquet"):
                self._refuse(("sampling", "file"), f"expected a .csv or .parquet file, got {shown(file.name)}")
            return sampling.model_copy(update={"file": file})
        return sampling

    def _dedup(self) -> Any:
        if self._value.get("dedup") is None:
            return None
        raw = self._sections.section("dedup", "the maximum time between near-duplicates, such as within: 10m")
        return None if raw is None else self._check.valid(("dedup",), model.Dedup, raw)

    def _output(self) -> Any:
        if self._value.get("output") is None:
            return model.Output()
        raw = self._sections.section("output", "format and frames_per_shard")
        if raw is None:
            return None
        if raw.get("format") == "webdataset":
            self._refuse(("output", "format"), "expected parquet or jpeg; webdataset is not supported yet")
            return None
        return self._check.valid(("output",), model.Output, raw)

    # -- helpers

    def _strategy(self) -> Any:
        sampling = self._value.get("sampling")
        return sampling.get("strategy") if isinstance(sampling, dict) else None


_EXPECTED: Final = {"version": "version: 1", "name": "a name for the dataset"}


def _annotation(kind: type[BaseModel], name: str) -> Any:
    return typing.get_type_hints(kind, include_extras=True)[name]


_SLUG: Final[TypeAdapter[str]] = TypeAdapter(Slug)


def _bounds_ms(moment: model.LocalTime, zones: list[str], now_ms: int) -> tuple[int, int]:
    """Return the earliest and the latest time (UTC) of a moment in any of the zones."""
    if moment.now:
        return now_ms, now_ms
    if moment.utc_ms is not None:
        return moment.utc_ms, moment.utc_ms
    found = [local_time.moment_ms(moment, zone) for zone in zones]
    return min(found), max(found)
