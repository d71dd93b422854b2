"""Sizes in a Parquet file: what reading it would take, before anything is decoded.

The footer is what a writer says of its file. The headers of pages are what the decoder goes by. The format is that
of parquet.thrift and thrift-compact-protocol.md. pyarrow's objects for the same structures end the process where a
footer contradicts itself.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

_MAGIC: Final = b"PAR1"
_MAX_FOOTER_BYTES: Final = 32 << 20
"""Maximum bytes of a footer. That of 100,000 images, the most of a shard, takes 6 MB."""
_READ_AHEAD: Final = 512
"""Bytes that are read at the start of a page. Most headers take about 30; those with statistics a few hundred."""
_MAX_HEADER_BYTES: Final = 64 * 1024
"""Maximum bytes of a page's header. Its statistics hold a lowest and a highest value of at most 4 KB each."""
_MAX_DEPTH: Final = 12
"""Maximum levels of structs. There are 8."""
_DATA_PAGES: Final = {0: 5, 3: 8}
"""The types of data pages (version 1 and 2), and the number of the field that describes each."""
_DICTIONARY_PAGE: Final = 2
_DELTA_BYTE_ARRAY: Final = 7
"""An encoding of texts by what they share with the text before. A few bytes can decode to gigabytes."""
_TEXT: Final = 6
"""The physical type of texts and bytes of any length, BYTE_ARRAY."""
_FIXED_BYTES: Final = 7
"""The physical type of bytes of one length, FIXED_LEN_BYTE_ARRAY. Each null takes the whole length."""

_Fields = dict[int, Any]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A column in one row group: ``rows`` rows in the bytes [start, stop) of the file."""

    path: str
    kind: int
    codec: int
    has_dictionary: bool
    rows: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Page:
    """One page: where its header and its content start, where it stops, and its header's fields.

    ``ahead``: the first bytes of the page, header included.
    """

    start: int
    content: int
    stop: int
    header: _Fields
    ahead: bytes


@dataclass(slots=True)
class ColumnSize:
    """Upper bounds for one column in memory, in bytes: its pages and numbers, and its texts.

    ``repeated_texts``: each row may have any text of the dictionary, and the longest is as long as the dictionary.
    """

    pages: int = 0
    repeated_texts: int = 0


def row_groups(descriptor: int) -> list[list[Chunk]]:
    """Return the columns of each row group of a file. Raises ValueError for a footer that is damaged.

    Columns are flat or in a struct. Lists, encrypted columns and columns in other files are refused.
    """
    size = os.fstat(descriptor).st_size
    end = os.pread(descriptor, 8, max(0, size - 8))
    length = int.from_bytes(end[:4], "little")
    if len(end) < 8 or end[4:] != _MAGIC or not 0 < length <= min(size - 12, _MAX_FOOTER_BYTES):
        raise ValueError("not a Parquet file: its end is damaged")
    try:
        footer, _ = _struct(os.pread(descriptor, length, size - 8 - length), 0)
        # FileMetaData: 2 schema, 4 row_groups. SchemaElement: 3 repetition_type (2: repeated).
        if any(element.get(3) == 2 for element in footer[2]):
            raise ValueError("expected columns of numbers and texts, got lists")
        # RowGroup: 1 columns, 3 num_rows
        return [[_chunk(column, group[3], size) for column in group[1]] for group in footer.get(4, [])]
    except (KeyError, TypeError, IndexError, AttributeError, struct.error) as error:
        raise ValueError(f"a damaged footer ({type(error).__name__})") from None


def _chunk(column: _Fields, rows: int, size: int) -> Chunk:
    # ColumnChunk: 1 file_path, 3 meta_data, 8 and 9 encryption. ColumnMetaData: 1 type, 3 path_in_schema, 4 codec,
    # 7 total_compressed_size, 9 data_page_offset, 11 dictionary_page_offset
    if not column.keys().isdisjoint((1, 8, 9)):
        raise ValueError("a column that is encrypted or in another file")
    about = column[3]
    start, dictionary = about[9], about.get(11)
    if dictionary is not None and 0 < dictionary < start:
        start = dictionary
    stop = start + about[7]
    if not (0 <= rows < 2**40 and 0 <= start <= stop <= size):
        raise ValueError("a column beyond the end of the file")
    return Chunk(b".".join(about[3]).decode(), about[1], about[4], dictionary is not None, rows, start, stop)


def pages(descriptor: int, chunk: Chunk) -> Iterator[Page]:
    """Yield the pages of one column chunk, its dictionary first. Raises ValueError for a damaged header."""
    position, end = chunk.start, chunk.stop
    # Without rows, nothing is decoded, and a writer may give any position.
    while chunk.rows and position < end:
        ahead = os.pread(descriptor, min(_READ_AHEAD, end - position), position)
        try:
            header, size = _struct(ahead, 0)
        except IndexError:
            ahead = os.pread(descriptor, min(_MAX_HEADER_BYTES, end - position), position)
            try:
                header, size = _struct(ahead, 0)
            except IndexError:
                raise ValueError("a damaged page header") from None
        # PageHeader: 2 uncompressed_page_size, 3 compressed_page_size
        plain, compressed = header.get(2), header.get(3)
        if type(plain) is not int or type(compressed) is not int or plain < 0 or compressed < 0:
            raise ValueError("a page without a size")
        page = Page(position, position + size, position + size + compressed, header, ahead)
        if page.stop > end:
            raise ValueError("a page extends beyond its column")
        yield page
        position = page.stop


def group_bytes(
    descriptor: int, group: Collection[Chunk], columns: Collection[str] | None = None
) -> dict[str, ColumnSize]:
    """Return what reading these columns (or all) of one row group takes.

    Raises ValueError for a file that this package would not write.
    """
    sizes: dict[str, ColumnSize] = {}
    for chunk in group:
        if columns is not None and chunk.path not in columns:
            continue
        if chunk.kind == _FIXED_BYTES:
            raise ValueError(f"column {chunk.path}: expected numbers or texts")
        is_text = chunk.kind == _TEXT
        size = sizes[chunk.path] = ColumnSize((4 if is_text else 8) * chunk.rows)
        for page in pages(descriptor, chunk):
            header = page.header
            size.pages += header[2]
            if header.get(1) == _DICTIONARY_PAGE:
                size.repeated_texts += chunk.rows * header[2] if is_text else 0
            elif _encoding(header) == _DELTA_BYTE_ARRAY:
                raise ValueError("an encoding that this package does not write")
    return sizes


def _encoding(header: _Fields) -> int:
    kind = header.get(1)
    described = header.get(_DATA_PAGES.get(kind, -1)) if isinstance(kind, int) else None
    encoding = described.get(2 if kind == 0 else 4) if isinstance(described, dict) else None
    if type(encoding) is not int:
        raise ValueError("a page that is neither of data nor a dictionary")
    return encoding


def _struct(data: bytes, at: int, depth: int = 0) -> tuple[_Fields, int]:
    """Return the fields of a struct in Thrift's compact protocol, by number, and the position after it.

    Raises ValueError for what is not such a struct, and IndexError where ``data`` ends first.
    """
    if depth > _MAX_DEPTH:
        raise ValueError("too many levels")
    fields: _Fields = {}
    number = 0
    while True:
        head = data[at]
        at += 1
        if head == 0:
            return fields, at
        kind = head & 0x0F
        if head >> 4:
            number += head >> 4
        else:
            number, at = _zigzag(data, at)
        if kind <= 2:
            fields[number] = kind == 1
        else:
            fields[number], at = _value(data, at, kind, depth)


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if 4 <= kind <= 6:
        return _zigzag(data, at)
    if kind == 8:
        length, at = _varint(data, at)
        return data[at : at + length], at + length
    if kind == 12:
        return _struct(data, at, depth + 1)
    if kind in (9, 10):
        return _list(data, at, depth)
    if kind == 7:
        return None, at + 8
    if kind in (1, 2, 3):
        return data[at], at + 1
    raise ValueError(f"a field of type {kind}")


def _list(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    if depth > _MAX_DEPTH:
        raise ValueError("too many levels")
    head = data[at]
    at += 1
    count = head >> 4
    if count == 15:
        count, at = _varint(data, at)
    if count > len(data):
        raise IndexError("a list that is longer than its file")
    values = []
    for _ in range(count):
        value, at = _value(data, at, head & 0x0F, depth + 1)
        values.append(value)
    return values, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = data[at]
    at += 1
    if value < 0x80:
        return value, at
    value &= 0x7F
    shift = 7
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at
