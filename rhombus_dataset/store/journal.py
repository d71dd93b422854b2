"""The journal: outcomes of a shard that is not committed yet, one file for each shard.

A record is written with one ``writev`` when its frame arrives, so a killed process loses no received frame.
:meth:`Journal.sync`, called about once a second, limits the loss after a power failure. Records are in order of
arrival; the commit of the shard sorts them.

A file is one header, then records:

    header   b"RDJ1", SHA-256 of the schedule's digest and the shard's name
    record   b"FRAM", row u32, length of the outcome u32, length of the image u64, CRC-32 of these fields
             and of the outcome u32, the outcome (JSON), the image

Numbers are little-endian. The sha256 in the outcome covers the image.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import hashlib
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import orjson

from rhombus_dataset.frame import Measures, Outcome, Status
from rhombus_dataset.store.files import as_storage_error, open_regular, staged_file, storage_error
from rhombus_dataset.store.images import MAX_IMAGE_BYTES

_MAGIC: Final = b"RDJ1"
_HEADER_BYTES: Final = len(_MAGIC) + 32
_RECORD: Final = struct.Struct("<4sIIQ")
_CRC: Final = struct.Struct("<I")
_FRAME: Final = b"FRAM"
_MAX_OUTCOME_BYTES: Final = 64 * 1024
"""Maximum length of an outcome in JSON. A longer length in a record means that the record is damaged."""
_READ_AHEAD: Final = 512
"""Bytes that are read at the start of a record: in nearly all records, more than its head and outcome."""
_MAX_OPEN: Final = 64
"""Maximum number of journals that are open at once: far below the usual limit of 1,024 open files."""


@dataclass(frozen=True, slots=True)
class Record:
    """One frame in a journal. ``frame`` has no image: its bytes are ``[start, stop)`` of the file."""

    row: int
    frame: Outcome
    start: int
    stop: int


class Journal:
    """The journal of one shard. Only one thread at a time may call ``append``.

    ``cut_bytes``: number of bytes that ``recover`` removed from the end of the file.
    """

    def __init__(self, path: Path, schedule_digest: str, shard: str) -> None:
        self.path = path
        self._header = _MAGIC + hashlib.sha256(f"{schedule_digest} {shard}".encode()).digest()
        self._descriptor: int | None = None
        self._size = 0
        self._dirty = False
        self.cut_bytes = 0

    def recover(self, rows_of_shard: range | None = None) -> list[int]:
        """Return the rows that an earlier run received. From the first damaged record on, the file is cut off.

        Every image is compared with its sha256. A record of a row that is not in ``rows_of_shard`` is damaged. A
        journal of another schedule, or with a damaged header, is removed. Raises StorageError.
        """
        if not self.path.exists():
            return []
        rows: list[int] = []
        end = 0
        with as_storage_error(self.path), self.reading() as reading:
            if reading.header() == self._header:
                end = _HEADER_BYTES
                for record in reading.records():
                    if rows_of_shard is not None and record.row not in rows_of_shard:
                        break
                    if not _matches(record.frame, reading.image_bytes(record)):
                        break
                    rows.append(record.row)
                    end = record.stop
        with as_storage_error(self.path):
            self.cut_bytes = self.path.stat().st_size - end
            if end:
                descriptor = open_regular(self.path, os.O_WRONLY)
                try:
                    os.ftruncate(descriptor, end)
                finally:
                    os.close(descriptor)
            else:
                self.path.unlink()
        return rows

    def append(self, row: int, frame: Outcome) -> None:
        """Append the outcome of ``row``. Raises StorageError, and then leaves the file as it was."""
        outcome = _outcome_to_json(frame)
        image = frame.image or b""
        head = _RECORD.pack(_FRAME, row, len(outcome), len(image))
        crc = _CRC.pack(zlib.crc32(outcome, zlib.crc32(head)))
        try:
            descriptor = self._open()
            length = len(head) + len(crc) + len(outcome) + len(image)
            written = os.writev(descriptor, (head + crc + outcome, image))
            if written != length:
                self._finish(descriptor, head + crc + outcome + image, written)
            self._size += length
            self._dirty = True
        except OSError as error:
            self._undo()
            raise storage_error(self.path, error) from error

    def sync(self) -> None:
        """Flush records to the disk. Other threads may append or release meanwhile. Raises StorageError."""
        if not self._dirty:
            return
        self._dirty = False
        with as_storage_error(self.path), contextlib.suppress(FileNotFoundError):
            descriptor = open_regular(self.path, os.O_WRONLY)
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)

    def release(self) -> None:
        """Close the file. The next ``append`` opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def reading(self) -> JournalReader:
        """Return a reader of the records, in order of arrival. Raises OSError."""
        return JournalReader(self.path)

    def outcomes(self) -> list[Record]:
        """Return the last record of each row, without its image. Raises StorageError."""
        if not self.path.exists():
            return []
        with as_storage_error(self.path), self.reading() as reading:
            return list({record.row: record for record in reading.records()}.values())

    def keep_only(self, keeps: Callable[[int], bool]) -> None:
        """Rewrite the journal with only the rows for which ``keeps`` is true, completely or not at all."""
        if not self.path.exists():
            return
        self.release()
        with staged_file(self.path) as staged:
            copy = Journal(staged, "", "")
            copy._header = self._header
            copy._open()
            with self.reading() as reading:
                for record in reading.records():
                    if keeps(record.row):
                        copy.append(record.row, replace(record.frame, image=reading.image_bytes(record)))
            copy.release()

    def remove(self) -> None:
        """Close and delete the file. Raises StorageError."""
        self._dirty = False
        self.release()
        with as_storage_error(self.path):
            self.path.unlink(missing_ok=True)

    def _open(self) -> int:
        if self._descriptor is None:
            self.path.parent.mkdir(exist_ok=True)  # without its parents: see files._make_folder
            self._descriptor = open_regular(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            self._size = os.fstat(self._descriptor).st_size
            if self._size < _HEADER_BYTES:
                os.ftruncate(self._descriptor, 0)
                os.write(self._descriptor, self._header)
                self._size = _HEADER_BYTES
        return self._descriptor

    @staticmethod
    def _finish(descriptor: int, content: bytes, written: int) -> None:
        # A signal or a nearly full disk can interrupt a write; the next call raises the reason.
        while written < len(content):
            written += os.write(descriptor, content[written:])

    def _undo(self) -> None:
        if self._descriptor is not None:
            # If this fails too, `recover` of the next run cuts off the incomplete record.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)


class Journals:
    """The journals of a build's shards. Safe to use from several threads; keeps at most 64 files open."""

    def __init__(self, folder: Path, schedule_digest: str) -> None:
        self._folder = folder
        self._digest = schedule_digest
        self._lock = threading.Lock()
        self._open: collections.OrderedDict[str, Journal] = collections.OrderedDict()

    def recover(self, shard: str, rows_of_shard: range) -> tuple[list[int], int]:
        """Return the rows that an earlier run received, and the number of bytes cut off. See Journal.recover."""
        journal = self._journal(shard)
        return journal.recover(rows_of_shard), journal.cut_bytes

    def append(self, shard: str, row: int, frame: Outcome) -> None:
        """Append the outcome of ``row`` to the journal of ``shard``. Raises StorageError."""
        with self._lock:
            journal = self._open.get(shard)
            if journal is None:
                journal = self._open[shard] = self._journal(shard)
                if len(self._open) > _MAX_OPEN:
                    _, oldest = self._open.popitem(last=False)
                    oldest.sync()
                    oldest.release()
            else:
                self._open.move_to_end(shard)
            journal.append(row, frame)

    def take(self, shard: str) -> Journal:
        """Remove the journal of a complete shard from this object, and return it."""
        with self._lock:
            journal = self._open.pop(shard, None)
        return journal or self._journal(shard)

    def sync(self) -> None:
        """Flush all open journals to the disk. Raises StorageError."""
        with self._lock:
            journals = list(self._open.values())
        for journal in journals:
            journal.sync()

    def close(self) -> None:
        """Flush and close all open journals. Raises StorageError."""
        with self._lock:
            while self._open:
                _, journal = self._open.popitem()
                journal.sync()
                journal.release()

    def _journal(self, shard: str) -> Journal:
        return Journal(self._folder / f"{shard}.journal", self._digest, shard)


class JournalReader:
    """An open journal file. Images are read only on request, into a given buffer."""

    def __init__(self, path: Path) -> None:
        self._descriptor = open_regular(path, os.O_RDONLY)
        self._size = os.fstat(self._descriptor).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def header(self) -> bytes:
        """Return the header, or less if the file is shorter."""
        return os.pread(self._descriptor, _HEADER_BYTES, 0)

    def records(self) -> Iterator[Record]:
        """Yield the records up to the first that is incomplete or damaged. Images are not checked."""
        at = _HEADER_BYTES
        fixed = _RECORD.size + _CRC.size
        while at + fixed <= self._size:
            block = os.pread(self._descriptor, _READ_AHEAD, at)
            magic, row, outcome_length, image_length = _RECORD.unpack_from(block)
            if magic != _FRAME or outcome_length > _MAX_OUTCOME_BYTES or image_length > MAX_IMAGE_BYTES:
                return
            start = at + fixed + outcome_length
            stop = start + image_length
            if stop > self._size:
                return
            if fixed + outcome_length > len(block):
                block = os.pread(self._descriptor, fixed + outcome_length, at)
            (crc,) = _CRC.unpack_from(block, _RECORD.size)
            outcome = block[fixed : fixed + outcome_length]
            if zlib.crc32(outcome, zlib.crc32(block[: _RECORD.size])) != crc:
                return
            try:
                frame = _outcome_from_json(outcome)
            except (ValueError, TypeError):
                return
            yield Record(row, frame, start, stop)
            at = stop

    def image_bytes(self, record: Record) -> bytes:
        """Return the image's bytes. Raises OSError if the file became shorter."""
        content = bytearray(record.stop - record.start)
        self.image_into(record, memoryview(content))
        return bytes(content)

    def image_into(self, record: Record, target: memoryview) -> None:
        """Read the image into a buffer of its length. Raises OSError if the file became shorter."""
        done = 0
        while done < len(target):
            count = os.preadv(self._descriptor, [target[done:]], record.start + done)
            if count == 0:
                raise OSError(errno.EIO, "the journal became shorter")
            done += count


def _matches(frame: Outcome, image: bytes) -> bool:
    if frame.status is not Status.OK:
        return not image
    return hashlib.sha256(image).hexdigest() == frame.sha256


def _outcome_to_json(frame: Outcome) -> bytes:
    m = frame.measures
    return orjson.dumps(
        (
            frame.status.value,
            frame.reason,
            frame.warning,
            frame.mime_type,
            frame.sha256,
            None if m is None else (m.width_px, m.height_px, m.luma, m.sharpness, m.dhash),
        )
    )


def _outcome_from_json(text: bytes) -> Outcome:
    """Return the outcome. Raises ValueError and TypeError where it is not one that a build writes."""
    status, reason, warning, mime_type, sha256, measures = orjson.loads(text)
    is_ok = Status(status) is Status.OK
    for value, is_required in ((reason, not is_ok), (warning, False), (mime_type, is_ok), (sha256, is_ok)):
        if not isinstance(value, str) and (is_required or value is not None):
            raise TypeError(f"expected text, got {value!r:.60}")
    values: list[Any] | None = measures
    if is_ok != (values is not None):
        raise ValueError("expected measures of a received image only")
    if values is not None and [type(value) for value in values] != [int, int, float, float, str]:
        raise TypeError(f"expected measures, got {values!r:.60}")
    return Outcome(
        status=Status(status),
        reason=reason,
        warning=warning,
        mime_type=mime_type,
        sha256=sha256,
        measures=None if values is None else Measures(*values),
    )
