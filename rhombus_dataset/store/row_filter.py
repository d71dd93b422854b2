"""Conditions on the columns of a manifest, as text: ``luma > 40 and view == 'door'``. They only compare columns.

The text has the syntax of a Python expression. It is parsed to a syntax tree and never executed. The tree is
translated to Arrow computations, one kind of node at a time; every other kind of node is refused. So a condition
from somebody else can choose rows and do nothing more.
"""

from __future__ import annotations

import ast
import contextlib
import datetime as dt
import math
import re
from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from rhombus_dataset.errors import UsageError, did_you_mean
from rhombus_dataset.wire import canonical_uuid

MAX_LENGTH: Final = 10_000
"""Maximum characters of a condition. A list of some hundred frame ids fits in; the parser needs no more than 0.1 s.
"""
MAX_DEPTH: Final = 50
"""Maximum depth of the syntax tree: deeper ones would end at the limit of Python's stack."""
_PIECES: Final = re.compile(
    r"""(?P<refused>\'\'\'|\"\"\"|\#|(?<!\w)[bfruBFRU]{1,2}(?=['"]))"""
    r"""|(?P<quoted>'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+")|(?P<operator>[&|])""",
    re.DOTALL,
)
"""The parts of a condition that Python would read in another way, and the texts, in which nothing is replaced."""
_OPERATORS: Final = {"&": " and ", "|": " or "}
"""As in pandas, & and | bind like the words: ``luma > 3 & width > 5`` has two comparisons."""
_ADVICE: Final = dict.fromkeys("bfruBFRU", "a text has no prefix") | {
    "#": "a condition has no comments",
    "'": "write a text in single quotes",
    '"': "write a text in single quotes",
}
_ESCAPE: Final = re.compile(r"\\(?=[^\\'\"abfnrtv0-7xuUN\n])|\\.", re.DOTALL)
"""A backslash that Python would keep, with a warning, or an escape of Python."""
_COMPARISONS: Final[dict[type[ast.cmpop], Callable[..., Any]]] = {
    ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
    ast.Lt: pc.less,
    ast.LtE: pc.less_equal,
    ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
}
_TEXT_METHODS: Final[dict[str, Callable[[Any, str], Any]]] = {
    "startswith": lambda column, text: pc.starts_with(column, pattern=text),
    "endswith": lambda column, text: pc.ends_with(column, pattern=text),
    "contains": lambda column, text: pc.match_substring(column, pattern=text),
}
_HELP: Final = (
    "allowed are columns, numbers, 'texts', == != < <= > >=, and, or, not, in [...], parentheses, "
    ".str.startswith('x'), .str.endswith('x'), .str.contains('x'), .isna() and .notna()"
)

Column = Any
"""An Arrow array, perhaps in chunks: pyarrow has no types."""


def matching_rows(table: pa.Table, condition: str) -> Column:
    """Return which rows of ``table`` match: bool, one for each row. A comparison with a null is false.

    Raises UsageError for a text that is no condition on the table's columns, naming the place.
    """
    return _Translation(table, condition).rows()


def uses_column(condition: str, name: str) -> bool:
    """Return whether a valid condition names this column."""
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(_parsed(condition)))


def _parsed(text: str) -> ast.expr:
    """Return the syntax tree of a condition. Raises UsageError."""
    if len(text) > MAX_LENGTH:
        raise UsageError(
            f"the condition has {len(text):,} characters, more than {MAX_LENGTH:,}. For a long list of values, "
            "use an Arrow expression: pyarrow.compute.field('frame_id').isin(values)"
        )
    for piece in _PIECES.finditer(text):
        if piece["refused"]:
            advice = _ADVICE[piece[0][0]]
            raise _error(text, f"{piece[0]} at character {piece.start() + 1} is not allowed: {advice}")
    try:
        tree = ast.parse(_PIECES.sub(_for_python, text).strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise _error(text, _syntax_advice(text, error)) from None
    levels: list[ast.AST] = [tree]
    for _ in range(MAX_DEPTH):
        levels = [child for node in levels for child in ast.iter_child_nodes(node)]
        if not levels:
            return tree
    raise _error(text, f"it is nested more than {MAX_DEPTH} levels deep")


def _for_python(piece: re.Match[str]) -> str:
    if piece["operator"]:
        return _OPERATORS[piece[0]]
    return _ESCAPE.sub(lambda escape: escape[0] if len(escape[0]) == 2 else "\\\\", piece[0])


def _syntax_advice(text: str, error: Exception) -> str:
    outside = _PIECES.sub(lambda piece: piece[0] if piece["operator"] else "", text)
    if "&&" in outside or "||" in outside:
        return "use `and` and `or` instead of && and ||"
    if "=" in re.sub("[=!<>]=", "", outside):
        return "use == to compare"
    if "!" in outside.replace("!=", ""):
        return "use `not` instead of !"
    if "@" in outside:
        return "@ does not stand for a variable here: write its value"
    # Where & or | was replaced, Python counts other characters.
    offset = error.offset if isinstance(error, SyntaxError) and not re.search("[&|]", outside) else None
    at = f" at character {offset + len(text) - len(text.lstrip())}" if offset else ""
    return f"it is not complete, or has a wrong character{at}; {_HELP}"


def _error(text: str, message: str) -> UsageError:
    shown = text if len(text) <= 200 else f"{text[:200]}..."
    return UsageError(f"the condition {shown!r}: {message}")


class _Translation:
    def __init__(self, table: pa.Table, condition: str) -> None:
        self._table = table
        self._text = condition

    def rows(self) -> Column:
        mask = self._mask(_parsed(self._text))
        return pc.fill_null(mask, False)

    def _mask(self, node: ast.expr) -> Column:
        """Return a condition: bool, null where it is neither true nor false."""
        match node:
            case ast.BoolOp(op=ast.And(), values=values):
                return _combined(pc.and_kleene, [self._mask(value) for value in values])
            case ast.BoolOp(op=ast.Or(), values=values):
                return _combined(pc.or_kleene, [self._mask(value) for value in values])
            case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
                # As in pandas: a row without a value does not match, and does match `not`.
                return pc.invert(pc.fill_null(self._mask(operand), False))
            case ast.Compare(left=left, ops=ops, comparators=others):
                sides = [left, *others]
                parts = [self._comparison(sides[i], op, sides[i + 1]) for i, op in enumerate(ops)]
                return _combined(pc.and_kleene, parts)
            case ast.Call():
                return self._call(node)
            case ast.Constant(value=bool() as value):
                return pa.repeat(value, self._table.num_rows)
        raise self._refused(node)

    def _comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Column:
        if isinstance(op, ast.In | ast.NotIn):
            found = self._is_in(left, right)
            return found if isinstance(op, ast.In) else pc.invert(found)
        if isinstance(op, ast.Eq | ast.NotEq) and isinstance(right, ast.List | ast.Tuple):  # as in pandas
            return self._comparison(left, ast.In() if isinstance(op, ast.Eq) else ast.NotIn(), right)
        if isinstance(op, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and right.value is None):
                raise self._error(f"`is` goes with None only: use == to compare with {_shown(right)}")
            op = ast.Eq() if isinstance(op, ast.Is) else ast.NotEq()
        for column, other in ((left, right), (right, left)):
            if isinstance(other, ast.Constant) and other.value is None:
                if not isinstance(op, ast.Eq | ast.NotEq):
                    raise self._error("None can only be compared with == and !=")
                missing = pc.is_null(self._column(column), nan_is_null=True)
                return missing if isinstance(op, ast.Eq) else pc.invert(missing)
        values = self._operand(left, right), self._operand(right, left)
        if not any(isinstance(value, pa.ChunkedArray | pa.Array) for value in values):
            raise self._error(f"{_shown(left)} and {_shown(right)}: one of them must be a column")
        try:
            mask = _COMPARISONS[type(op)](*values)
        except (pa.ArrowException, TypeError):
            raise self._error(
                f"{_shown(left)} cannot be compared with {_shown(right)}: {self._types(left, right)}"
            ) from None
        return pc.fill_null(mask, True) if isinstance(op, ast.NotEq) else mask

    def _is_in(self, left: ast.expr, right: ast.expr) -> Column:
        if not isinstance(right, ast.List | ast.Tuple | ast.Set):
            raise self._error(f"after `in`, expected a list such as ['a', 'b'], got {_shown(right)}")
        column = self._column(left)
        values = [self._value(item, column, left) for item in right.elts]
        # In the type of the values, not of the column: 320.5 is none of the integers.
        kind = next((value.type for value in values if value is not None), column.type)
        wrong = [value for value in values if value is not None and _family(value.type) != _family(column.type)]
        if wrong:
            raise self._error(f"the list holds values that {_shown(left)} ({column.type}) cannot have")
        wanted = pa.array([None if value is None else value.as_py() for value in values], kind)
        return pc.is_in(column if kind == column.type else column.cast(kind), value_set=wanted)

    def _call(self, node: ast.Call) -> Column:
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Attribute(value=ast.Name() as name, attr="str"), attr=method),
                args=[ast.Constant(value=str() as text)],
                keywords=[],
            ) if method in _TEXT_METHODS:
                column = self._column(name)
                if not pa.types.is_string(column.type):
                    raise self._error(f".str goes with texts, and {name.id} has the type {column.type}")
                return _TEXT_METHODS[method](column, self._text_value(text))
            case ast.Call(
                func=ast.Attribute(value=ast.Name() as name, attr="isna" | "isnull"), args=[], keywords=[]
            ):
                return pc.is_null(self._column(name), nan_is_null=True)
            case ast.Call(
                func=ast.Attribute(value=ast.Name() as name, attr="notna" | "notnull"), args=[], keywords=[]
            ):
                return pc.invert(pc.is_null(self._column(name), nan_is_null=True))
            case ast.Call(func=ast.Attribute(value=ast.Name() as name, attr="isin"), args=[values], keywords=[]):
                return self._is_in(name, values)
        raise self._refused(node)

    def _column(self, node: ast.expr) -> Column:
        if not isinstance(node, ast.Name):
            raise (
                self._refused(node)
                if not isinstance(node, ast.Constant)
                else self._error(f"{_shown(node)}: expected a column")
            )
        if node.id not in self._table.column_names:
            names = self._table.column_names
            raise self._error(
                f"no column {_shown(node)}{did_you_mean(node.id, names) or '.'} The columns are {', '.join(names)}"
            )
        return self._table.column(node.id)

    def _operand(self, node: ast.expr, other: ast.expr) -> Any:
        """Return a column, or a constant as the type that ``other`` needs."""
        if isinstance(node, ast.Name):
            return self._column(node)
        return self._value(node, self._column(other) if isinstance(other, ast.Name) else None, other)

    def _value(self, node: ast.expr, column: Column | None, name: ast.expr) -> Any:
        """Return a constant as the Arrow scalar to compare ``column`` with, or None for None."""
        match node:
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return self._number(-number)
            case ast.UnaryOp(op=ast.UAdd(), operand=ast.Constant(value=int() | float() as number)):
                return self._number(number)
            case ast.Constant(value=None):
                return None
            case ast.Constant(value=bool() as value):
                return pa.scalar(value)
            case ast.Constant(value=int() | float() as number):
                return self._number(number)
            case ast.Constant(value=str() as text):
                if isinstance(name, ast.Name) and name.id == "camera_uuid":
                    # A plan may name a camera without its facet. A manifest has it always.
                    with contextlib.suppress(ValueError):
                        text = canonical_uuid(text)
                is_time = column is not None and pa.types.is_timestamp(column.type)
                return self._time(text) if is_time else pa.scalar(self._text_value(text))
        raise self._refused(node)

    def _number(self, number: float) -> Any:
        try:
            value = float(number)  # exact for the columns of a manifest
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise self._error("a number is too large")
        return pa.scalar(value)

    def _text_value(self, text: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise self._error(f"{text[:60]!r} is not valid Unicode") from None
        return text

    def _time(self, text: str) -> Any:
        try:
            moment = dt.datetime.fromisoformat(text)
            moment = moment.astimezone(dt.UTC) if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
        except (ValueError, OverflowError):
            raise self._error(
                f"{text[:60]!r} is not a time: expected one such as '2026-06-01T12:00:00+00:00'"
            ) from None
        return pa.scalar(moment, pa.timestamp("us", tz="UTC"))

    def _types(self, *nodes: ast.expr) -> str:
        names = [node.id for node in nodes if isinstance(node, ast.Name)]
        return ", ".join(f"{name} has the type {self._table.column(name).type}" for name in names)

    def _refused(self, node: ast.expr) -> UsageError:
        return self._error(f"{_shown(node)} is not allowed; {_HELP}")

    def _error(self, message: str) -> UsageError:
        return _error(self._text, message)


def _family(kind: Any) -> str:
    """Return the same word for types whose values can be compared."""
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "number"
    return "time" if pa.types.is_timestamp(kind) else str(kind)


def _combined(operation: Callable[[Column, Column], Column], masks: list[Column]) -> Column:
    result = masks[0]
    for mask in masks[1:]:
        result = operation(result, mask)
    return result


def _shown(node: ast.expr) -> str:
    try:
        text = ast.unparse(node)
    except ValueError:  # an integer of thousands of digits, or an f-string
        return "a part of it"
    return text if len(text) <= 60 else f"{text[:60]}..."
