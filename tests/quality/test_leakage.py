"""Leakage between splits: found by hash and bytes, and the same counts in ``verify`` and in the report."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rhombus_dataset
from rhombus_dataset.quality.leakage import MAX_BITS, NEIGHBOURS, SplitLeakage, cross_split_duplicates
from rhombus_dataset.quality.verification import VerifyReport
from rhombus_dataset.reports.page import report_html
from rhombus_dataset.store.manifest import read_manifest
from tests.conftest import build_thousand

SPLITS = ["train", "test"]
MINUTE_MS = 60_000


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    """Return a manifest with these rows; what a row does not give is different from all other rows."""
    rng = np.random.default_rng(0)
    return pa.Table.from_pylist(
        [
            {
                "frame_id": f"{i:020x}",
                "camera_uuid": "A",
                "view": "full",
                "split": "train",
                "timestamp": i * MINUTE_MS,
                "status": "ok",
                "dhash": rng.bytes(8).hex(),
                "sha256": f"{i:064x}",
                **row,
            }
            for i, row in enumerate(rows)
        ]
    ).cast(
        pa.schema(
            [
                *((name, pa.string()) for name in ("frame_id", "camera_uuid", "view", "split")),
                ("timestamp", pa.timestamp("ms", tz="UTC")),
                *((name, pa.string()) for name in ("status", "dhash", "sha256")),
            ]
        )
    )


def counts(rows: list[dict[str, Any]]) -> tuple[int, int, int, int]:
    """Return look-alikes and same bytes of train, then the same of test."""
    (pair,) = cross_split_duplicates(table_of(rows), SPLITS)
    train, test = pair.sides
    assert (train.split, train.other, test.split, test.other) == ("train", "test", "test", "train")
    return train.look_alikes, train.same_bytes, test.look_alikes, test.same_bytes


TRAIN: dict[str, Any] = {"split": "train", "dhash": "0" * 16}
TEST: dict[str, Any] = {"split": "test", "dhash": "f" * 16}


def test_a_few_bits_apart_and_near_in_time_is_a_look_alike() -> None:
    assert counts([TRAIN, {**TEST, "dhash": f"{(1 << MAX_BITS) - 1:016x}"}]) == (1, 0, 1, 0)
    assert counts([TRAIN, {**TEST, "dhash": f"{(1 << (MAX_BITS + 1)) - 1:016x}"}]) == (0, 0, 0, 0)


def test_a_look_alike_is_of_the_same_camera_and_view() -> None:
    assert counts([TRAIN, {**TEST, "dhash": "0" * 16, "camera_uuid": "B"}]) == (0, 0, 0, 0)
    assert counts([TRAIN, {**TEST, "dhash": "0" * 16, "view": "door"}]) == (0, 0, 0, 0)


def test_the_same_bytes_count_at_any_time_and_between_cameras() -> None:
    same = {"sha256": "a" * 64}
    far = {"timestamp": 1000 * 24 * 60 * MINUTE_MS, "camera_uuid": "B", "view": "door"}
    between = [{"split": split} for split in SPLITS * (NEIGHBOURS + 1)]
    assert counts([{**TRAIN, **same}, *between, {**TEST, **same, **far}]) == (1, 1, 1, 1)


def test_the_same_hash_counts_at_any_time_and_a_similar_one_only_near_in_time() -> None:
    between = [{"split": split} for split in SPLITS * (NEIGHBOURS + 1)]
    assert counts([TRAIN, *between, {**TEST, "dhash": "0" * 16}]) == (1, 0, 1, 0)
    assert counts([TRAIN, *between, {**TEST, "dhash": f"{1:016x}"}]) == (0, 0, 0, 0)


def test_near_in_time_is_up_to_a_minute_apart_within_a_camera() -> None:
    def near(gap_ms: int, camera: str = "A") -> list[int]:
        rows = [{**TRAIN, "timestamp": 0}, {**TEST, "dhash": "0" * 16, "timestamp": gap_ms, "camera_uuid": camera}]
        (pair,) = cross_split_duplicates(table_of(rows), SPLITS)
        return [side.near_in_time for side in pair.sides]

    assert near(MINUTE_MS) == [1, 1]
    assert near(MINUTE_MS + 1) == near(0, "B") == [0, 0]


def test_images_only_and_two_splits_at_least() -> None:
    missing = {**TEST, "dhash": None, "sha256": None, "status": "missing"}
    assert cross_split_duplicates(table_of([TRAIN, missing]), SPLITS) == ()
    assert cross_split_duplicates(table_of([missing]), SPLITS) == ()


def test_examples_name_the_most_alike_images_first() -> None:
    rows = [TRAIN, {**TEST, "dhash": f"{3:016x}"}, {**TRAIN, "dhash": f"{2:016x}", "sha256": "a" * 64}]
    rows.append({**TEST, "dhash": f"{2:016x}", "sha256": "a" * 64})
    (pair,) = cross_split_duplicates(table_of(rows), SPLITS)
    assert [(one["frame_id"][-1], one["other_frame_id"][-1]) for one in pair.examples] == [("2", "3"), ("0", "1")]
    first, second = pair.examples
    assert (first["same_bytes"], first["differing_bits"], first["apart_ms"]) == (True, 0, MINUTE_MS)
    assert (second["same_bytes"], second["differing_bits"], second["split"]) == (False, 2, "train")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["train", "test"]), st.sampled_from("AB"), st.integers(0, 1), st.integers(0, 63),
            st.integers(0, 5),
        ),
        min_size=1,
        max_size=30,
    )
)  # fmt: skip
def test_fewer_images_than_neighbours_are_all_compared(found: list[tuple[str, str, int, int, int]]) -> None:
    """The definition, on every pair: with few images, all of them are near in time."""
    # At most 24 images of the other split can be on one side.
    rows: list[dict[str, Any]] = [
        {"split": split, "camera_uuid": camera, "view": f"{view}", "dhash": f"{bits:016x}", "sha256": f"{sha:064x}"}
        for split, camera, view, bits, sha in found[: NEIGHBOURS // 2]
    ]

    def alike(a: dict[str, Any], b: dict[str, Any]) -> bool:
        near = (a["camera_uuid"], a["view"]) == (b["camera_uuid"], b["view"])
        bits = (int(a["dhash"], 16) ^ int(b["dhash"], 16)).bit_count()
        return bool(a["sha256"] == b["sha256"] or (near and bits <= MAX_BITS))

    expected = {
        (own, other): sum(
            a["split"] == own and any(b["split"] == other and alike(a, b) for b in rows) for a in rows
        )
        for own, other in itertools.permutations(SPLITS)
    }
    sides = [side for pair in cross_split_duplicates(table_of(rows), SPLITS) for side in pair.sides]
    if sides:
        assert {(side.split, side.other): side.look_alikes for side in sides} == expected
    else:
        assert len({row["split"] for row in rows}) == 1


def build(folder: Path, clips: list[Path], splits: str) -> tuple[Path, VerifyReport]:
    folder.mkdir()
    path = build_thousand(folder, clips, "jpeg", splits)
    report = rhombus_dataset.verify(path)
    assert report.problems == ()
    return path, report


def sides_of(report: VerifyReport) -> list[SplitLeakage]:
    assert report.cross_split_duplicates is not None
    return [side for pair in report.cross_split_duplicates for side in pair.sides]


def test_verify_and_the_report_count_what_a_random_split_leaks(
    clips: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fractions = "fractions: {train: 0.8, validation: 0.1, test: 0.1}"
    shuffled, random = build(tmp_path / "shuffled", clips, f"{{by: time, block: 1s, {fractions}}}")
    _, blocks = build(tmp_path / "blocks", clips, f"{{by: time, block: 10m, embargo: 1m, {fractions}}}")
    near = [sum(side.near_in_time for side in sides_of(report)) for report in (random, blocks)]
    everywhere = [sum(side.look_alikes for side in sides_of(report)) for report in (random, blocks)]
    with capsys.disabled():
        print(
            f"\nlook-alikes across splits within 60 s (at any time): {near[0]} ({everywhere[0]}) if seconds are "
            f"shuffled, {near[1]} ({everywhere[1]}) with blocks and an embargo"
        )
    assert near[0] > 50
    assert near[1] == 0
    # The clips are played in a loop, so the same image recurs at other times in any split.
    assert min(everywhere) > 50

    dataset = {frame.frame_id: frame for frame in rhombus_dataset.open_dataset(shuffled)}
    for pair in random.cross_split_duplicates or ():
        for example in pair.examples:
            one, other = dataset[example["frame_id"]], dataset[example["other_frame_id"]]
            assert (one.split, other.split) == (example["split"], example["other_split"])
            assert {one.split, other.split} == {side.split for side in pair.sides}
            assert abs(one.timestamp_ms - other.timestamp_ms) == example["apart_ms"]
            assert example["same_bytes"] == (one.read() == other.read())
    text = random.to_text()
    page = " ".join(re.sub(r"<[^>]*>", " ", report_html(shuffled)).split())
    for side in sides_of(random):
        assert side.look_alikes >= side.near_in_time > 0
        count = f"{side.look_alikes} of {side.frames}"
        assert f"warning: {count} frames of split {side.split} have a look-alike in split {side.other}" in text
        assert f"{count} in {side.split}" in page
        assert f"{side.near_in_time} in {side.split}" in page
        assert f"{side.same_bytes} in {side.split}" in page
        assert side.frames == sum(frame.split == side.split for frame in dataset.values())
    assert random.to_json()["cross_split_duplicates"][0]["sides"][0]["split"] == "train"
    # Both are of the manifest alone.
    table = read_manifest(shuffled)
    assert cross_split_duplicates(table, ["train", "validation", "test"]) == random.cross_split_duplicates
