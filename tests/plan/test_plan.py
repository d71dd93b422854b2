"""Plans: every mistake at once with its place, and nothing that a file can do but be refused."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rhombus_dataset.config.yaml_source import load_marked, parse_marked
from rhombus_dataset.errors import InvalidFile
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.plan.loader import load_plan
from rhombus_dataset.plan.model import Plan
from rhombus_dataset.plan.template import plan_json_schema, starter_plan
from rhombus_dataset.plan.values import parse_duration, parse_permyriad
from tests.conftest import CONFIGS, NOW_MS

GOOD: dict[str, Any] = {
    "version": 1,
    "name": "good",
    "source": {"type": "rhombus"},
    "cameras": [
        {"uuid": "A" * 22, "name": "a", "timezone": "America/Los_Angeles"},
        {"uuid": "B" * 22, "timezone": "Europe/Berlin", "views": ["full"]},
    ],
    "views": {
        "full": {"downscale": 2},
        "door": {"crop": {"x": "12.5%", "y": 0, "width": "50%", "height": 5000}},
    },
    "windows": [{"start": "2026-06-01", "end": "2026-07-01", "daily": ["22:00-06:00"], "weekdays": ["mon"]}],
    "sampling": {"strategy": "stratified", "frames": 100, "min_gap": "30s"},
}


def read(text: str, folder: Path) -> Plan:
    path = folder / "plan.yaml"
    path.write_text(text)
    return load_plan(path, NOW_MS)


def problems(text: str, folder: Path) -> list[tuple[int | None, str]]:
    with pytest.raises(InvalidFile) as raised:
        read(text, folder)
    return [(problem.line, f"{problem.field}: {problem.message}") for problem in raised.value.problems]


def changed(**changes: Any) -> str:
    return json.dumps(GOOD | changes)


def test_a_plan_is_read_into_one_unit(tmp_path: Path) -> None:
    plan = read(json.dumps(GOOD), tmp_path)
    assert plan.views == {"full": Geometry(2), "door": Geometry(1, 1250, 0, 5000, 5000)}
    assert plan.cameras[0].views == ("full", "door")
    assert plan.cameras[1].name == "B" * 22
    assert [(r.start_minute, r.end_minute) for r in plan.windows[0].daily] == [(1320, 1440), (0, 360)]
    assert plan.sampling.model_dump()["min_gap"] == 30_000


TEN_MISTAKES = """\
version: 1
name: ten mistakes
seed: -1
source: {type: rhombus, url: "http://example.com"}
cameras:
  - uuid: AAAAAAAAAAAAAAAAAAAAAA
    timezone: America/Los_Angles
    views: [ful]
views:
  full: {downscale: 2}
  door: {crop: {x: 60%, y: 0, width: 50%, height: 10%}}
windows:
  - {start: 2026-07-01, end: 2026-06-01}
  - {start: 2026-06-01, end: 2036-06-01}
sampling: {strategy: stratfied, frames: 10}
splits: {by: time, block: 1h, fractions: {train: 0.8, test: 0.3}}
"""


def test_ten_mistakes_get_ten_errors_with_the_right_lines(tmp_path: Path) -> None:
    found = problems(TEN_MISTAKES, tmp_path)
    assert [line for line, _ in found] == [2, 3, 4, 7, 8, 11, 13, 14, 15, 16]
    for (_, text), part in zip(
        found,
        ["name: expected letters", "seed: expected a number greater", "plain http would send the key",
         "did you mean America/Los_Angeles?", "cameras[0].views[0]: 'ful' is not a view", "x 6000 + width 5000",
         "windows[0].end: the window is empty", "write end: now", "did you mean stratified?", "sum to 1, got 1.1"],
        strict=True,
    ):  # fmt: skip
        assert part in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, "unknown field 'colour'"),
        ({"vesion": 1}, "did you mean version?"),
        ({"cameras": [{"match": "gate-*"}]}, "match is not supported yet: give the camera's uuid"),
        ({"sampling": {"strategy": "events"}}, "events is not supported yet"),
        ({"output": {"format": "webdataset"}}, "webdataset is not supported yet"),
        ({"cameras": [{"uuid": "A" * 22}]}, "cameras[0]: timezone is missing"),
        ({"cameras": [GOOD["cameras"][0]] * 2}, "duplicate uuid 'AAAAAAAAAAAAAAAAAAAAAA.v0', first in line 1"),
        ({"cameras": []}, "expected a list of cameras"),
        ({"windows": None}, "expected a list of windows"),
        ({"windows": [{"start": "2026-06-01", "end": "2026-06-03", "weekdays": ["sun"]}]}, "the window is empty"),
        ({"windows": [{"start": "2026-06-01", "end": "2026-06-02", "exclude": ["2026-06-01"]}]}, "empty"),
        ({"windows": [{"start": "now", "end": "now"}]}, "only the end of a window can be now"),
        ({"windows": [{"start": "2036-06-01", "end": "now"}]}, "is in the future"),
        ({"windows": [{"start": "2026-06-01", "end": "2026-06-02", "daily": ["6-20"]}]}, "expected hours such as"),
        ({"windows": [{"start": "2026-06-01", "end": "2026-06-02", "weekdays": ["monday"]}]}, "did you mean mon?"),
        ({"windows": [{"start": "yesterday", "end": "now"}]}, "expected a date"),
        ({"sampling": {"strategy": "random"}}, "either frames or frames_per_camera, got neither"),
        ({"sampling": {"strategy": "random", "frames": 1, "frames_per_camera": 1}}, "got both"),
        ({"sampling": {"strategy": "interval", "every": "5"}}, "expected a duration such as"),
        ({"sampling": {"strategy": "interval", "every": 5}}, "a duration with its unit, such as 5s"),
        ({"sampling": {"strategy": "interval", "every": "2d"}}, "less than or equal to 86400000"),
        ({"sampling": {"strategy": "interval", "every": "1m", "jitter": "2m"}}, "must not be longer than every"),
        ({"sampling": {"strategy": "timestamps", "file": "no.csv"}}, "no such file"),
        ({"source": {"type": "rhombus", "auth": {"api_key": "hunter2"}}}, "a key must not be in a plan"),
        ({"source": {"type": "rhombus", "auth": {"scheme": "api"}}}, "give certificate"),
        ({"source": {"type": "rhombus", "url": "https://user:pw@host"}}, "without user, password"),
        ({"source": {"type": "rhombus", "limits": {"concurrency": 0}}}, "greater than or equal to 1"),
        ({"source": {"type": "recordings", "site": "no.yaml"}}, "no such file"),
        ({"splits": {"by": "camera", "fractions": {"a": 0.5, "b": 0.3, "c": 0.2}}}, "at least as many cameras"),
        ({"splits": {"by": "camera", "fractions": {"a": 1.0}, "assign": {"b": ["a"]}}}, "'b' is not a split"),
        ({"splits": {"by": "camera", "fractions": {"a": 1.0}, "assign": {"a": ["aa"]}}}, "is not a camera"),
        ({"splits": {"by": "time", "block": "1h", "embargo": "1h", "fractions": {"a": 1}}}, "shorter than block"),
        ({"splits": {"by": "time", "block": "1h", "fractions": {"te-st": 1}}}, "letters, digits and underscores"),
        ({"views": {"full": {"crop": {"x": 0, "y": 0, "width": "0.333%", "height": 1}}}}, "two decimals"),
        ({"views": {"full": {"crop": {"x": 0, "y": 0, "width": 0, "height": 1}}}}, "a width of at least 1"),
        ({"views": {"full": {"crop": {"x": 0}}}}, "y is missing"),
        ({"name": "../../etc/passwd"}, "expected letters, digits"),
    ],
)  # fmt: skip
def test_errors_are_readable(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    found = problems(changed(**changes), tmp_path)
    assert any(message in text for _, text in found), found
    for _, text in found:
        assert len(text) < 400
        assert "pydantic" not in text.lower()
        assert "hunter2" not in text


@pytest.mark.parametrize("name", ["plan.yaml", "nested.yaml"])
def test_a_file_that_does_not_exist_is_reported(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidFile, match="No such file"):
        load_plan(tmp_path / name, NOW_MS)


def bombs() -> dict[str, str]:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    return {
        "aliases": "\n".join(lines),
        "itself": "a: &a [*a]",
        "depth": "[" * 5000,
        "blocks": "\n".join(" " * i + "a:" for i in range(2000)),
        "wide": "a: [" + "x, " * 300_000 + "x]",
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(bombs()))
def test_bombs_are_refused_quickly(tmp_path: Path, kind: str) -> None:
    start_s = time.process_time()
    assert problems(bombs()[kind], tmp_path)
    assert time.process_time() - start_s < 20


def test_a_file_of_100_mb_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(InvalidFile, match="100,000,000 bytes"):
        load_plan(path, NOW_MS)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "duplicate key 'a', first in line 1"),
        ("a: 1\n---\nb: 2\n", 2, "a second document"),
        ("a: !!python/object/apply:os.system ['true']\n", 1, "is not allowed"),
        ("a: {<<: {b: 1}}\n", 1, "merge keys"),
        ("a: [1, 2\nb: 3\n", 2, "not YAML"),
        ("a:\n\t- 1\n", 2, "not YAML"),
        ("? [a, b]\n: 1\n", 1, "expected a word as key"),
        ("", None, "empty"),
    ],
)
def test_yaml_that_is_refused(tmp_path: Path, text: str, line: int | None, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(InvalidFile) as raised:
        load_marked(path)
    assert any(p.line == line and message in p.message for p in raised.value.problems), raised.value


def test_words_stay_words() -> None:
    text = "a: 12:30\nb: 2026-06-01\nc: no\nd: true\ne: '7'\nf: 7\ng: 0.5\nh: ~\non: off\n1: x\n"
    assert parse_marked(text, "f").value == {
        "a": "12:30", "b": "2026-06-01", "c": "no", "d": True, "e": "7", "f": 7, "g": 0.5, "h": None,
        "on": "off", "1": "x",
    }  # fmt: skip


words = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x24F, exclude_characters="\x7f"), max_size=12
).filter(lambda word: word != "<<" and word.isprintable())


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**9), 10**9) | words,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
        max_leaves=20,
    )
)
def test_json_reads_as_itself(value: Any) -> None:
    assert parse_marked(json.dumps(value, ensure_ascii=False), "f").value == value


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda t: t.encode("utf-8", "surrogatepass")))
@settings(max_examples=300)
def test_no_bytes_do_anything_but_be_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(content)
    with pytest.raises(InvalidFile):
        load_plan(path, NOW_MS)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*path, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            found += places(inner, (*path, i))
    return found


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10)
    | st.sampled_from(["5m", "25%", "2026-06-01", "now", "interval", "full", "A" * 22]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


@pytest.mark.slow
@given(st.data())
@settings(max_examples=400)
def test_no_mutation_of_a_plan_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    plan = json.loads(json.dumps(GOOD | {"splits": {"by": "time", "block": "1h", "fractions": {"a": 1.0}}}))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(plan)))
        holder = plan
        for step in path[:-1]:
            holder = holder[step]
        holder[path[-1]] = data.draw(anything)
    file = tmp_path_factory.getbasetemp() / "mutant.yaml"
    file.write_text(json.dumps(plan))
    with contextlib.suppress(InvalidFile):
        assert isinstance(load_plan(file, NOW_MS), Plan)


@given(st.integers(0, 10**9), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_durations(number: int, unit: str) -> None:
    factor = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}[unit]
    assert parse_duration(f"{number}{unit}") == number * factor


@given(st.integers(0, 10_000))
def test_percents_are_exact(permyriad: int) -> None:
    assert parse_permyriad(permyriad) == permyriad
    assert parse_permyriad(f"{permyriad / 100:.2f}%") == permyriad


def test_the_schema_takes_what_is_valid_and_refuses_what_is_not(tmp_path: Path) -> None:
    schema = plan_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    plans = [load_marked(p).value for p in sorted(CONFIGS.glob("*.yaml")) if "site" not in p.name]
    assert len(plans) >= 7
    for plan in [*plans, GOOD, parse_marked(starter_plan(), "starter").value]:
        validator.validate(plan)
    ten = [error.absolute_path[0] for error in validator.iter_errors(parse_marked(TEN_MISTAKES, "t").value)]
    assert {"seed", "sampling"} <= set(ten)


def test_every_field_of_the_schema_has_a_description() -> None:
    """A description of its own, beside a reference too: editors show it at the key."""
    described = 0

    def walk(place: str, value: Any) -> None:
        nonlocal described
        if isinstance(value, list):
            for i, item in enumerate(value):
                walk(f"{place}[{i}]", item)
        if not isinstance(value, dict):
            return
        if isinstance(value.get("properties"), dict):
            assert len(value.get("description", "")) > 10, f"{place} is not described"
            for key, field in value["properties"].items():
                assert len(field.get("description", "")) > 3, f"{place}.{key} is not described"
                described += 1
        for key, inner in value.items():
            walk(f"{place}.{key}", inner)

    walk("plan", plan_json_schema())
    assert described > 80


def test_the_starter_plan_is_valid(tmp_path: Path) -> None:
    assert read(starter_plan(), tmp_path).sampling.strategy == "stratified"
