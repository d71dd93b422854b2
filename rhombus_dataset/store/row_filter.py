"""Conditions on the columns of a manifest, as text: ``luma > 40 and view == 'door'``. They only compare columns.

The text has the syntax of a Python expression. It is parsed to a syntax tree and never executed. The tree is
translated to Arrow computations, one kind of node at a time; every other kind of node is refused. So a condition
from somebody else can choose rows and do nothing more.
"""

from __future__ import annotations

import ast
import datetime as dt
import math
from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from rhombus_dataset.errors import UsageError, nearest

MAX_LENGTH: Final = 10_000
"""Maximum characters of a condition. A list of some hundred frame ids fits in; the parser needs no more than 0.1 s.
"""
MAX_DEPTH: Final = 50
"""Maximum depth of the syntax tree: deeper ones would end at the limit of Python's stack."""
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
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(ast.parse(condition.strip())))


class _Translation:
    def __init__(self, table: pa.Table, condition: str) -> None:
        self._table = table
        self._text = condition

    def rows(self) -> Column:
        mask = self._mask(self._parsed())
        return pc.fill_null(mask, False)

    def _parsed(self) -> ast.expr:
        if len(self._text) > MAX_LENGTH:
            raise UsageError(f"the condition has {len(self._text):,} characters, more than {MAX_LENGTH:,}")
        try:
            tree = ast.parse(self._text.strip(), mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            raise self._error(self._syntax_advice(error)) from None
        levels: list[ast.AST] = [tree]
        for _ in range(MAX_DEPTH):
            levels = [child for node in levels for child in ast.iter_child_nodes(node)]
            if not levels:
                return tree
        raise self._error(f"it is nested more than {MAX_DEPTH} levels deep")

    def _syntax_advice(self, error: Exception) -> str:
        outside = "".join(self._text.split("'")[::2])
        if "&&" in outside or "||" in outside:
            return "use `and` and `or` instead of && and ||"
        if "=" in outside.replace("==", "").replace("!=", "").replace("<=", "").replace(">=", ""):
            return "use == to compare"
        if "!" in outside.replace("!=", ""):
            return "use `not` instead of !"
        if "@" in outside:
            return "@ does not stand for a variable here: write its value"
        at = f" at character {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        return f"it is not complete, or has a wrong character{at}; {_HELP}"

    def _mask(self, node: ast.expr) -> Column:
        """Return a condition: bool, null where it is neither true nor false."""
        match node:
            case ast.BoolOp(op=ast.And(), values=values):
                return _combined(pc.and_kleene, [self._mask(value) for value in values])
            case ast.BoolOp(op=ast.Or(), values=values):
                return _combined(pc.or_kleene, [self._mask(value) for value in values])
            case ast.BinOp(left=left, op=ast.BitAnd(), right=right):
                return pc.and_kleene(self._mask(left), self._mask(right))
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return pc.or_kleene(self._mask(left), self._mask(right))
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
        if isinstance(op, ast.Is | ast.IsNot):
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
        values = [self._operand(item, left) for item in right.elts]
        try:
            wanted = pa.array([v.as_py() if isinstance(v, pa.Scalar) else v for v in values], column.type)
        except (pa.ArrowException, TypeError, AttributeError):
            raise self._error(f"the list holds values that {_shown(left)} ({column.type}) cannot have") from None
        return pc.is_in(column, value_set=wanted)

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
                return _TEXT_METHODS[method](column, text)
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
            meant = nearest(node.id, self._table.column_names)
            raise self._error(
                f"no column {node.id}"
                + (f"; did you mean {meant}?" if meant else "")
                + f" The columns are {', '.join(self._table.column_names)}"
            )
        return self._table.column(node.id)

    def _operand(self, node: ast.expr, other: ast.expr) -> Any:
        """Return a column, or a constant as the type that ``other`` needs. Numbers are plain Python numbers."""
        match node:
            case ast.Name():
                return self._column(node)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return self._number(-number)
            case ast.Constant(value=bool() as value):
                return pa.scalar(value)
            case ast.Constant(value=int() | float() as number):
                return self._number(number)
            case ast.Constant(value=str() as text):
                is_time = isinstance(other, ast.Name) and pa.types.is_timestamp(self._column(other).type)
                return self._time(text) if is_time else pa.scalar(text)
        raise self._refused(node)

    def _number(self, number: float) -> Any:
        if (isinstance(number, int) and abs(number) >= 2**63) or not math.isfinite(number):
            raise self._error(f"{number} is too large")
        return pa.scalar(number)

    def _time(self, text: str) -> Any:
        try:
            moment = dt.datetime.fromisoformat(text)
        except ValueError:
            raise self._error(f"{text!r} is not a time: expected one such as '2026-06-01T12:00:00+00:00'") from None
        return pa.scalar(moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC), pa.timestamp("us", tz="UTC"))

    def _types(self, *nodes: ast.expr) -> str:
        names = [node.id for node in nodes if isinstance(node, ast.Name)]
        return ", ".join(f"{name} has the type {self._table.column(name).type}" for name in names)

    def _refused(self, node: ast.expr) -> UsageError:
        return self._error(f"{_shown(node)} is not allowed; {_HELP}")

    def _error(self, message: str) -> UsageError:
        text = self._text if len(self._text) <= 200 else f"{self._text[:200]}..."
        return UsageError(f"the condition {text!r}: {message}")


def _combined(operation: Callable[[Column, Column], Column], masks: list[Column]) -> Column:
    result = masks[0]
    for mask in masks[1:]:
        result = operation(result, mask)
    return result


def _shown(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 60 else f"{text[:60]}..."
