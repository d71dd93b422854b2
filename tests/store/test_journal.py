"""Promise 6: received frames are read back, also after a crash or with an incomplete end of the file."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhombus_dataset.errors import StorageError
from rhombus_dataset.frame import Measures, Outcome, Status
from rhombus_dataset.store.journal import Journal, Journals

texts = st.none() | st.text(max_size=40)


@st.composite
def frames(draw: st.DrawFn) -> Outcome:
    status = draw(st.sampled_from([Status.OK, Status.MISSING, Status.FAILED, Status.CORRUPT]))
    if status is not Status.OK:
        return Outcome(status, reason=draw(st.text(max_size=40)), warning=draw(texts))
    image = draw(st.binary(min_size=1, max_size=300))
    return Outcome(
        status,
        warning=draw(texts),
        image=image,
        mime_type="image/jpeg",
        sha256=hashlib.sha256(image).hexdigest(),
        measures=Measures(
            draw(st.integers(1, 9000)), draw(st.integers(1, 9000)), draw(st.floats(0, 255)),
            draw(st.floats(0, 1e7)), draw(st.text("0123456789abcdef", min_size=16, max_size=16)),
        ),
    )  # fmt: skip


def write(path: Path, received: list[Outcome]) -> None:
    journal = Journal(path, "digest", "shard")
    for row, frame in enumerate(received):
        journal.append(row, frame)
    journal.sync()
    journal.release()


def read(path: Path) -> list[tuple[int, Outcome, bytes]]:
    if not path.exists():
        return []
    with Journal(path, "digest", "shard").reading() as reading:
        return [(r.row, r.frame, reading.image_bytes(r)) for r in reading.records()]


def without_image(frame: Outcome) -> Outcome:
    return Outcome(frame.status, frame.reason, frame.warning, None, frame.mime_type, frame.sha256, frame.measures)


@given(st.lists(frames(), max_size=6))
def test_what_is_appended_is_read_back(received: list[Outcome]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal" / "a.journal"
        write(path, received)
        assert read(path) == [(i, without_image(f), f.image or b"") for i, f in enumerate(received)]
        assert Journal(path, "digest", "shard").recover() == list(range(len(received)))


@given(st.lists(frames(), min_size=1, max_size=5), st.integers(0, 10**6))
def test_a_torn_tail_is_cut_off_and_earlier_records_are_kept(received: list[Outcome], cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.journal"
        ends = []
        for count in range(len(received) + 1):
            path.unlink(missing_ok=True)
            write(path, received[:count])
            ends.append(path.stat().st_size if path.exists() else 0)
        length = cut % (ends[-1] + 1)
        with path.open("r+b") as file:
            file.truncate(length)
        whole = sum(end <= length for end in ends[1:])
        journal = Journal(path, "digest", "shard")
        assert journal.recover() == list(range(whole))
        for row in range(whole, len(received)):
            journal.append(row, received[row])
        journal.release()
        assert [frame for _, frame, _ in read(path)] == [without_image(f) for f in received]


@given(st.lists(frames(), min_size=1, max_size=4), st.integers(0, 10**6), st.integers(1, 255))
def test_damage_is_never_taken_for_a_frame(received: list[Outcome], at: int, flip: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.journal"
        write(path, received)
        content = bytearray(path.read_bytes())
        content[at % len(content)] ^= flip
        path.write_bytes(content)
        rows = Journal(path, "digest", "shard").recover()
        assert rows == list(range(len(rows)))
        for row, frame, image in read(path):
            assert frame == without_image(received[row])
            assert image == (received[row].image or b"")


@given(st.binary(max_size=300))
def test_any_bytes_are_tolerated(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.journal"
        path.write_bytes(content)
        assert Journal(path, "digest", "shard").recover() == []


def test_a_journal_of_another_schedule_is_not_used(tmp_path: Path) -> None:
    write(tmp_path / "a.journal", [Outcome(Status.MISSING, reason="x")])
    assert Journal(tmp_path / "a.journal", "another digest", "shard").recover() == []
    assert not (tmp_path / "a.journal").exists()


def test_many_open_shards_need_few_open_files(tmp_path: Path) -> None:
    journals = Journals(tmp_path, "digest")
    for turn in range(2):
        for shard in range(300):
            journals.append(f"s{shard}", turn, Outcome(Status.MISSING, reason=f"{shard}"))
    journals.sync()
    assert len(journals._open) <= 64
    journals.close()
    assert all(len(Journals(tmp_path, "digest").recover(f"s{shard}", range(9))[0]) == 2 for shard in range(300))


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="a part of the path is a file"):
        Journal(tmp_path / "file" / "a.journal", "d", "s").append(0, Outcome(Status.MISSING, reason="x"))
