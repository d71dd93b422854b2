"""From a file to a ``Plan``, or to every mistake that the file holds.

Each section, and each camera, view and window, is validated on its own, and what must fit together is checked
on whatever came through, so one mistake hides no other.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from rhombus_dataset import local_time
from rhombus_dataset.errors import InvalidFile, Problem, nearest
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.marked_yaml import Marked, Path_, load_marked
from rhombus_dataset.plan import model
from rhombus_dataset.plan.values import Slug, shown

M = TypeVar("M", bound=BaseModel)

LATER: Final = {
    "events": "expected interval, random, stratified, burst or timestamps; events is not supported yet",
    "scout": "expected interval, random, stratified, burst or timestamps; scout is not supported yet",
}
_SECRET_NAMES: Final = {"key", "api_key", "apikey", "token", "secret", "password", "x-auth-apikey"}
_STRATEGIES: Final[dict[str, type[BaseModel]]] = {
    "interval": model.IntervalSampling,
    "random": model.RandomSampling,
    "stratified": model.StratifiedSampling,
    "burst": model.BurstSampling,
    "timestamps": model.TimestampsSampling,
}
_SOURCES: Final[dict[str, type[BaseModel]]] = {
    "rhombus": model.RhombusSource,
    "recordings": model.RecordingsSource,
}
_SPLITS: Final[dict[str, type[BaseModel]]] = {"time": model.TimeSplits, "camera": model.CameraSplits}


def load_plan(path: Path, now_ms: int) -> model.Plan:
    """Read and check the plan in a file. ``now_ms``: UTC epoch milliseconds; no window may reach beyond it.

    Paths in the plan are relative to its folder, and absolute in the result. Raises InvalidFile with
    every mistake of the file.
    """
    return _Reading(load_marked(path), path.parent, now_ms).plan()


class _Reading:
    def __init__(self, marked: Marked, folder: Path, now_ms: int) -> None:
        self._marked = marked
        self._folder = folder
        self._now_ms = now_ms
        self._problems: list[Problem] = []

    def plan(self) -> model.Plan:
        top = self._marked.value
        if not isinstance(top, dict):
            self._refuse((), f"expected a plan, with fields such as version and cameras, got {shown(top)}")
            raise InvalidFile(self._problems)
        for key in top:
            if key not in model.Plan.model_fields:
                self._unknown((key,), key, model.Plan)
        plain = {name: self._plain(name) for name in ("version", "name", "seed")}
        source = self._source()
        views = self._views()
        cameras = self._cameras(views)
        windows = self._windows(cameras)
        sampling = self._sampling(windows)
        splits = self._splits(cameras)
        output = self._output()
        if self._problems:
            self._problems.sort(key=lambda p: (p.line or 0, p.column or 0))
            raise InvalidFile(self._problems)
        return model.Plan.model_construct(
            **plain,
            source=source,
            cameras=tuple(camera for _, camera in cameras),
            views=views,
            windows=tuple(windows),
            sampling=sampling,
            splits=splits,
            output=output,
        )

    # -- sections

    def _plain(self, name: str) -> Any:
        info = model.Plan.model_fields[name]
        if name not in self._marked.value:
            if info.is_required():
                self._refuse((), f"{name} is missing: expected {_EXPECTED[name]}")
            return info.default
        adapter: TypeAdapter[Any] = TypeAdapter(_annotation(model.Plan, name))
        return self._checked((name,), lambda: adapter.validate_python(self._marked.value[name]))

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
        raw = self._marked.value.get("views")
        if raw is None and "views" not in self._marked.value:
            return {"full": Geometry()}
        if not isinstance(raw, dict) or not raw:
            self._refuse(("views",), f"expected views by name, such as full: {{downscale: 2}}, got {shown(raw)}")
            return {}
        views: dict[str, Geometry] = {}
        for name, value in itertools.islice(raw.items(), 1_000):
            slug = self._checked(("views", name), lambda n=name: _SLUG.validate_python(n))  # type: ignore[misc]
            view = self._valid(("views", name), model.View, {} if value is None else value)
            if view is not None and slug is not None:
                views[name] = view.geometry
        if len(raw) > 1_000:
            self._refuse(("views",), f"expected at most 1,000 views, got {len(raw):,}")
        return views

    def _cameras(self, views: Mapping[str, Geometry]) -> list[tuple[int, model.Camera]]:
        raw = self._list("cameras", 10_000, "a list of cameras, each with uuid and timezone")
        known = self._marked.value.get("views")
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
                            f"{shown(name)} is not a view of the plan ({', '.join(names[:8])}){_hint(name, names)}",
                        )
            camera = self._valid(("cameras", i), model.Camera, value)
            if camera is None:
                continue
            for kind, text, seen in (("uuid", camera.uuid, uuids), ("name", camera.name, taken)):
                if text in seen:
                    first = self._marked.position(("cameras", seen[text]))[0]
                    self._refuse(("cameras", i, kind), f"{shown(text)} stands twice, first in line {first}")
                seen.setdefault(text, i)
            if isinstance(value, dict) and "views" in value and not camera.views:
                self._refuse(("cameras", i, "views"), "expected at least one view; leave views out for all of them")
            cameras.append((i, camera.model_copy(update={"views": camera.views or tuple(views)})))
        return cameras

    def _windows(self, cameras: list[tuple[int, model.Camera]]) -> list[model.Window]:
        if "windows" not in self._marked.value and self._strategy() == "timestamps":
            return []
        raw = self._list("windows", 1_000, "a list of windows, each with start and end")
        zones = sorted({camera.timezone for _, camera in cameras}) or ["UTC"]
        windows: list[model.Window] = []
        for i, value in enumerate(raw):
            window = self._valid(("windows", i), model.Window, value)
            if window is not None and self._window_is_sound(("windows", i), window, zones):
                windows.append(window)
        return windows

    def _window_is_sound(self, path: Path_, window: model.Window, zones: list[str]) -> bool:
        before = len(self._problems)
        if window.start.now:
            self._refuse((*path, "start"), "now is only for the end of a window: expected a date or time")
            return False
        bounds = [_bounds_ms(moment, zones, self._now_ms) for moment in (window.start, window.end)]
        # Only what is in the future for every camera is certainly a mistake of the plan.
        for name, (earliest, _) in zip(("start", "end"), bounds, strict=True):
            if earliest > self._now_ms:
                advice = "write end: now" if name == "end" else "footage is only in the past"
                self._refuse((*path, name), f"{shown(self._at((*path, name)))} is in the future: {advice}")
        if len(self._problems) > before:
            return False
        if any(a >= b for a, b in zip(*bounds, strict=True)):
            self._refuse(
                (*path, "end"),
                f"the window is empty: end {shown(self._at((*path, 'end')))} is not after "
                f"start {shown(self._at((*path, 'start')))}",
            )
        elif not all(local_time.window_intervals([window], zone, self._now_ms) for zone in zones):
            self._refuse(path, "the window is empty: its daily hours, weekdays and exclusions leave no time")
        return len(self._problems) == before

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
        if self._marked.value.get("splits") is None:
            return None
        raw = self._section("splits", "by: time or by: camera, with fractions")
        if raw is None:
            return None
        fractions = raw.get("fractions")
        if isinstance(fractions, dict) and all(_is_number(v) and 0 < v <= 1 for v in fractions.values()):
            total = sum(fractions.values())
            if fractions and abs(total - 1) > 1e-6:
                self._refuse(("splits", "fractions"), f"expected fractions that sum to 1, got {total:g}")
        if raw.get("by") == "camera" and isinstance(fractions, dict):
            self._assign(raw.get("assign"), fractions, cameras)
            if 0 < len(cameras) < len(fractions):
                self._refuse(
                    ("splits", "fractions"),
                    f"{len(fractions)} splits need at least as many cameras, and the plan has {len(cameras)}: "
                    "name fewer splits, or split by time",
                )
        return self._tagged(("splits",), raw, "by", _SPLITS)

    def _assign(self, assign: Any, fractions: dict[str, Any], cameras: list[tuple[int, model.Camera]]) -> None:
        if not isinstance(assign, dict):
            return
        known = {camera.name: camera.uuid for _, camera in cameras}
        known |= {camera.uuid: camera.uuid for _, camera in cameras}
        known |= {c.uuid[:22]: c.uuid for _, c in cameras if c.uuid.endswith(".v0")}
        seen: dict[str, str] = {}
        for split, assigned in assign.items():
            if split not in fractions:
                self._refuse(
                    ("splits", "assign", split),
                    f"{shown(split)} is not a split ({', '.join(fractions)}){_hint(split, fractions)}",
                )
            for k, name in enumerate(assigned if isinstance(assigned, list) else []):
                path = ("splits", "assign", split, k)
                if name not in known:
                    self._refuse(path, f"{shown(name)} is not a camera of the plan{_hint(str(name), known)}")
                elif seen.setdefault(known[name], split) != split:
                    self._refuse(path, f"{shown(name)} is assigned to {seen[known[name]]} already")

    def _output(self) -> Any:
        if self._marked.value.get("output") is None:
            return model.Output()
        raw = self._section("output", "format and frames_per_shard")
        if raw is None:
            return None
        if raw.get("format") == "webdataset":
            self._refuse(("output", "format"), "expected parquet or jpeg; webdataset is not supported yet")
            return None
        return self._valid(("output",), model.Output, raw)

    # -- helpers

    def _at(self, path: Path_) -> Any:
        value = self._marked.value
        for step in path:
            value = value[step]
        return value

    def _strategy(self) -> Any:
        sampling = self._marked.value.get("sampling")
        return sampling.get("strategy") if isinstance(sampling, dict) else None

    def _section(self, name: str, expected: str) -> dict[str, Any] | None:
        value = self._marked.value.get(name)
        if isinstance(value, dict):
            return value
        if name not in self._marked.value:
            self._refuse((), f"{name} is missing: expected {expected}")
        else:
            self._refuse((name,), f"expected {expected}, got {shown(value)}")
        return None

    def _list(self, name: str, most: int, expected: str) -> list[Any]:
        value = self._marked.value.get(name)
        if name not in self._marked.value:
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
            return self._valid(path, kinds[chosen], raw)
        names = " or ".join([", ".join(list(kinds)[:-1]), list(kinds)[-1]])
        if tag not in raw:
            self._refuse(path, f"{tag} is missing: expected {names}")
        else:
            hint = _hint(chosen, kinds) if isinstance(chosen, str) else ""
            self._refuse((*path, tag), f"expected {names}, got {shown(chosen)}{hint}")
        return None

    def _file(self, path: Path_, name: Path) -> Path | None:
        file = (self._folder / name).absolute()
        if not file.is_file():
            self._refuse(path, f"no such file: {file}")
            return None
        return file

    def _valid(self, path: Path_, kind: type[M], value: Any) -> M | None:
        if not isinstance(value, dict):
            fields = ", ".join(kind.model_fields)
            self._refuse(path, f"expected fields ({fields}), got {shown(value)}")
            return None
        found: M | None = self._checked(path, lambda: kind.model_validate(value), kind)
        return found

    def _checked(self, path: Path_, check: Callable[[], Any], kind: type[BaseModel] | None = None) -> Any:
        try:
            return check()
        except ValidationError as error:
            for details in error.errors(include_url=False):
                self._report(path, details, kind)
            return None

    def _report(self, path: Path_, details: ErrorDetails, kind: type[BaseModel] | None) -> None:
        place: Path_ = path + tuple(step for step in details["loc"] if step != "[key]")
        match details["type"]:
            case "extra_forbidden":
                holder = _model_at(kind, details["loc"][:-1])
                self._unknown(place, str(details["loc"][-1]), holder)
            case "missing":
                self._refuse(place[:-1], f"{details['loc'][-1]} is missing")
            case "value_error":
                self._refuse(place, str(details["ctx"]["error"]))
            case _:
                got = details["input"]
                expected = details["msg"].removeprefix("Input should be ").removeprefix("a valid ")
                hint = ""
                if details["type"] == "literal_error" and isinstance(got, str):
                    hint = _hint(got, [w.strip("'") for w in expected.replace(" or ", ", ").split(", ")])
                self._refuse(place, f"expected {_in_words(expected)}, got {shown(got)}{hint}")

    def _unknown(self, path: Path_, key: str, holder: type[BaseModel] | None) -> None:
        known = list(holder.model_fields) if holder is not None else []
        hint = _hint(key, known)
        listed = "" if hint or not known else f" (known: {', '.join(known)})"
        self._refuse(path, f"unknown field {shown(key)}{hint}{listed}")

    def _refuse(self, path: Path_, message: str) -> None:
        self._problems.append(self._marked.problem(path, message))


_EXPECTED: Final = {"version": "version: 1", "name": "a name for the dataset"}


def _annotation(kind: type[BaseModel], name: str) -> Any:
    import typing

    return typing.get_type_hints(kind, include_extras=True)[name]


_SLUG: Final[TypeAdapter[str]] = TypeAdapter(Slug)


def _hint(word: str, known: Any) -> str:
    meant = nearest(word[:60], known)
    return f"; did you mean {meant}?" if meant else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _in_words(expected: str) -> str:
    words = {
        "integer": "a whole number",
        "string": "text (in quotes, if it looks like a number)",
        "boolean": "true or false",
        "number": "a number",
        "tuple": "a list",
        "dictionary": "fields by name",
    }
    for word, said in words.items():
        if expected == word:
            return said
    if expected.startswith(("greater", "less")):
        return f"a number {expected}"
    return expected[:1].lower() + expected[1:]


def _model_at(kind: type[BaseModel] | None, loc: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The model whose field an unknown key was meant to be."""
    for step in loc:
        if kind is None or step not in kind.model_fields:
            return None
        kind = next(_models_in(kind.model_fields[str(step)].annotation), None)
    return kind


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    import typing

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models_in(part)


def _bounds_ms(moment: model.LocalTime, zones: list[str], now_ms: int) -> tuple[int, int]:
    """The earliest and the latest that a moment is in any of the zones."""
    if moment.now:
        return now_ms, now_ms
    if moment.utc_ms is not None:
        return moment.utc_ms, moment.utc_ms
    found = [local_time.moment_ms(moment, zone) for zone in zones]
    return min(found), max(found)
