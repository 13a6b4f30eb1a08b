"""SQL with bound values from a parsed condition; DuckDB runs it. It checks tests against the kinds of the columns."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal

from gpubranches.catalog.metadata.conditions import (
    And,
    ColumnName,
    Comparison,
    Condition,
    Kind,
    Not,
    Or,
    SqlValue,
    Value,
    column_text,
    columns_of,
)
from gpubranches.errors import UsageError

_HOLDS: dict[Kind, str] = {
    "number": "numbers",
    "text": "texts",
    "boolean": "true and false",
    "date": "dates",
    "time": "times",
    "time with zone": "times",
}


def to_sql(condition: Condition, kinds: Mapping[ColumnName, Kind]) -> tuple[str, list[SqlValue]]:
    """Return a condition as SQL and the values of its `?`; column i of `columns_of` is called c{i} there.

    kinds: of all columns of the table. Raises UsageError for an unknown column, and for a comparison with a value of
    another kind.
    """
    named = {name: f"c{place}" for place, name in enumerate(columns_of(condition))}
    values: list[SqlValue] = []
    return _sql(condition, kinds, named, values), values


def _sql(
    condition: Condition, kinds: Mapping[ColumnName, Kind], named: Mapping[ColumnName, str], values: list[SqlValue]
) -> str:
    if isinstance(condition, Not):
        return f"(NOT {_sql(condition.part, kinds, named, values)})"
    if isinstance(condition, And | Or):
        word = " AND " if isinstance(condition, And) else " OR "
        return f"({word.join(_sql(part, kinds, named, values) for part in condition.parts)})"
    kind = _kind(condition, kinds)
    sql = _test_sql(condition, kind, named[condition.column], values)
    return f"(NOT {sql})" if condition.negated else sql


def _test_sql(test: Comparison, kind: Kind, column: str, values: list[SqlValue]) -> str:
    if test.operator == "null":
        return f"({column} IS NULL)"
    if kind == "nothing":
        return "CAST(NULL AS BOOLEAN)"
    if test.operator in ("like", "ilike"):
        values.append(_regex(str(_bound(test, kind, test.values[0]))))
        # RE2 takes time linear in the text for any pattern; LIKE has no such guarantee.
        return f"regexp_full_match({column}, ?, '{'is' if test.operator == 'ilike' else 's'}')"
    values.extend(_bound(test, kind, value) for value in test.values)
    if test.operator == "in":
        return f"({column} IN ({', '.join('?' * len(test.values))}))"
    if test.operator == "between":
        return f"({column} BETWEEN ? AND ?)"
    return f"({column} {test.operator} ?)"


def _kind(test: Comparison, kinds: Mapping[ColumnName, Kind]) -> Kind:
    """Return the kind of a test's column. Raises UsageError if the test does not fit it."""
    name, at = column_text(test.column), f"at letter {test.position + 1}"
    if test.column not in kinds:
        known = {column_text(column).lower(): column_text(column) for column in kinds}
        near = difflib.get_close_matches(name.lower(), known, 1)
        hint = f"; perhaps {known[near[0]]}" if near else ""
        columns = ", ".join(known.values())
        refused = UsageError(f"where: expected one of the columns {columns} {at}, got {name:.80}{hint}")
        meant = known[near[0]] if near else ""
        raise refused.because("filter-column", name=name[:80], columns=columns, near=meant, found=str(bool(near)))
    kind = kinds[test.column]
    if test.operator == "null" or kind == "nothing":
        return kind
    if kind == "other":
        refused = UsageError(f"where: {name} {at} can only be tested by IS NULL and IS NOT NULL")
        raise refused.because("filter-null-only", name=name)
    if test.operator in ("like", "ilike") and kind != "text":
        refused = UsageError(f"where: LIKE is for texts, {name} {at} holds {_HOLDS[kind]}; compare with = or <")
        raise refused.because("filter-like", name=name)
    if kind == "boolean" and test.operator not in ("=", "<>", "in"):
        refused = UsageError(f"where: {name} {at} holds true and false; compare with = or !=")
        raise refused.because("filter-boolean", name=name)
    return kind


def _bound(test: Comparison, kind: Kind, value: Value) -> SqlValue:
    """Return a value in the form for a comparison with a column of a kind."""
    fits = {"number": (int, float, Decimal), "boolean": (bool,)}.get(kind, (str,))
    if isinstance(value, fits) and (kind == "boolean" or not isinstance(value, bool)):
        try:
            return _moment(str(value), kind) if kind in ("date", "time", "time with zone") else value
        except (ValueError, OverflowError):
            pass
    shown = f"'{value}'" if isinstance(value, str) else str(value).lower()
    wanted = {"number": "a number", "text": "a 'text'", "boolean": "TRUE or FALSE"}.get(kind, "such as '2024-05-31'")
    name = column_text(test.column)
    refused = UsageError(
        f"where: {name} at letter {test.position + 1} holds {_HOLDS[kind]}, expected {wanted}, got {shown:.80}"
    )
    raise refused.because("filter-value", name=name, kind=kind.replace(" ", "-"), got=shown[:80])


def _moment(text: str, kind: Kind) -> date:
    if kind == "date":
        return date.fromisoformat(text)
    moment = datetime.fromisoformat(text)
    if kind == "time with zone":
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _regex(pattern: str) -> str:
    return "".join({"%": ".*", "_": "."}.get(letter) or re.escape(letter) for letter in pattern)
