"""Filters over the metadata of items: a subset of SQL, parsed here. `condition_sql` turns them into SQL.

    condition  = conjunction {OR conjunction}
    conjunction = part {AND part}
    part       = NOT part | "(" condition ")" | test
    test       = column ("=" | "!=" | "<>" | "<" | "<=" | ">" | ">=") value
               | column [NOT] (LIKE | ILIKE) 'pattern'      % any text, _ one letter; ILIKE ignores case
               | column [NOT] IN "(" value {"," value} ")"
               | column [NOT] BETWEEN value AND value
               | column IS [NOT] NULL
    column     = name {"." name}       a name of letters, digits and _, or any name in "quotes"; a.b is field b of a
    value      = number | 'text', with '' for ' | TRUE | FALSE

Keywords are not case-sensitive. A test on a missing value is neither true nor false, as in SQL; NaN counts as
missing. Dates and times are compared with texts such as '2024-05-31' and '2024-05-31 12:00'.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from types import UnionType
from typing import Literal, get_args

from gpubranches.errors import UsageError

ColumnName = tuple[str, ...]
"""A column: its name, then those of nested fields."""
Kind = Literal["number", "text", "boolean", "date", "time", "time with zone", "nothing", "other"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Value = str | int | float | Decimal | bool
SqlValue = Value | date

MAX_LENGTH = 10_000
"""The largest number of letters of a condition."""
MAX_PATTERN_LENGTH = 1_000
MAX_DEPTH = 50
"""The largest number of nested parentheses and NOTs."""
KEYWORDS = frozenset(("and", "or", "not", "like", "ilike", "in", "between", "is", "null", "true", "false"))

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))|(?P<text>'(?:[^']|'')*')"""
    r"""|(?P<name>"(?:[^"]|"")*")|(?P<word>[^\W\d]\w*)|(?P<sign><=|>=|<>|!=|[=<>(),.]))"""
)
_PLAIN_NAME = re.compile(r"[^\W\d]\w*")
_COMPARISONS = {"=": "=", "!=": "<>", "<>": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_EXPECTED = {
    "end": "AND, OR or the end",
    "end-inside": "AND, OR or )",
    "depth": f"at most {MAX_DEPTH} parentheses and NOTs within each other",
    "null": "NULL",
    "null-or-not": "NULL or NOT NULL",
    "bracket": "(",
    "comma": ", or )",
    "and": "AND",
    "negated": "LIKE, ILIKE, IN or BETWEEN",
    "test": "=, !=, <, <=, >, >=, LIKE, ILIKE, IN, BETWEEN or IS",
    "column": "a column",
    "field": "a field's name",
    "finite": "a number of at most 1e308",
    "not-null": "a value (write IS NULL for a missing one)",
    "value": "a number, a 'text' in quotes, TRUE or FALSE",
    "pattern": "a 'pattern'",
    "short-pattern": f"a pattern of at most {MAX_PATTERN_LENGTH:,} letters",
    "quote": "a closing '",
    "double-quote": 'a closing "',
}
"""What a condition lacks where it cannot be read, by the names that the page's text `filter-expected` tells apart."""


@dataclass(frozen=True)
class Comparison:
    """One test of a column. values: to compare the column with; position: of the column in the text, from 0."""

    column: ColumnName
    operator: str
    values: tuple[Value, ...]
    negated: bool
    position: int


@dataclass(frozen=True)
class Not:
    """The opposite of a condition."""

    part: Condition


@dataclass(frozen=True)
class And:
    """All of two or more conditions."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Or:
    """At least one of two or more conditions."""

    parts: tuple[Condition, ...]


Condition = Comparison | Not | And | Or


def parse(text: str) -> Condition:
    """Parse a condition. Raises UsageError with the position, what was expected there, and what was found."""
    if len(text) > MAX_LENGTH:
        refused = UsageError(f"where: expected at most {MAX_LENGTH:,} letters, got {len(text):,}")
        raise refused.because("filter-long", most=MAX_LENGTH, count=len(text))
    parser = _Parser(text)
    condition = parser.condition()
    if parser.kind != "end":
        raise parser.error("end")
    return condition


def columns_of(condition: Condition) -> list[ColumnName]:
    """Return the columns that a condition tests, each once."""
    if isinstance(condition, Comparison):
        return [condition.column]
    parts = (condition.part,) if isinstance(condition, Not) else condition.parts
    return list(dict.fromkeys(name for part in parts for name in columns_of(part)))


def column_text(column: ColumnName) -> str:
    """Return the text of a column in a condition."""
    plain = (_PLAIN_NAME.fullmatch(name) and name.lower() not in KEYWORDS for name in column)
    quoted = ('"' + name.replace('"', '""') + '"' for name in column)
    return ".".join(name if fits else quote for name, fits, quote in zip(column, plain, quoted, strict=True))


def value_condition(column: ColumnName, value: SqlValue | None) -> str:
    """Return the condition that a column has a value, or that it is missing (None)."""
    return f"{column_text(column)} IS NULL" if value is None else f"{column_text(column)} = {_literal(value)}"


def to_text(condition: Condition) -> str:
    """Return a condition as text, with the parentheses it needs; `parse` reads the same from it."""
    if isinstance(condition, Comparison):
        return _test_text(condition)
    if isinstance(condition, Not):
        return f"NOT {_enclosed(condition.part, And | Or)}"
    if isinstance(condition, And):
        return " AND ".join(_enclosed(part, And | Or) for part in condition.parts)
    return " OR ".join(_enclosed(part, Or) for part in condition.parts)


class _Parser:
    """Parses a condition from left to right. kind, token, position: of the next token; position: where it begins."""

    def __init__(self, text: str):
        self._text = text
        self._end = 0
        self._depth = 0
        self._next()

    def condition(self) -> Condition:
        return self._joined("or", Or, lambda: self._joined("and", And, self._part))

    def error(self, expected: str) -> UsageError:
        """Return the error for a token other than the expected one, which is named in _EXPECTED."""
        before = self._text[: self.position].rstrip()
        after = f", after {before[-40:]!r}" if before else ""
        got = "the end" if self.kind == "end" else repr(self.token[:40])
        refused = UsageError(f"where: expected {_EXPECTED[expected]} at letter {self.position + 1}{after}, got {got}")
        at, ended = self.position + 1, str(self.kind == "end")
        return refused.because("filter-expected", what=expected, at=at, got=self.token[:40], ended=ended)

    def _joined(self, word: str, kind: type[And] | type[Or], read: Callable[[], Condition]) -> Condition:
        parts = [read()]
        while self._accept(word):
            parts.append(read())
        return parts[0] if len(parts) == 1 else kind(tuple(parts))

    def _part(self) -> Condition:
        if self._depth >= MAX_DEPTH:
            raise self.error("depth")
        self._depth += 1
        try:
            if self._accept("not"):
                return Not(self._part())
            if not self._accept("("):
                return self._test()
            inside = self.condition()
            self._expect(")", "end-inside")
            return inside
        finally:
            self._depth -= 1

    def _test(self) -> Condition:
        place, column = self.position, self._column()
        if self.kind == "sign" and self.token in _COMPARISONS:
            operator = _COMPARISONS[self.token]
            self._next()
            return Comparison(column, operator, (self._value(),), False, place)
        if self._accept("is"):
            negated = self._accept("not")
            self._expect("null", "null" if negated else "null-or-not")
            return Comparison(column, "null", (), negated, place)
        negated = self._accept("not")
        for word in ("like", "ilike"):
            if self._accept(word):
                return Comparison(column, word, (self._pattern(),), negated, place)
        if self._accept("in"):
            self._expect("(", "bracket")
            values = [self._value()]
            while self._accept(","):
                values.append(self._value())
            self._expect(")", "comma")
            return Comparison(column, "in", tuple(values), negated, place)
        if self._accept("between"):
            low = self._value()
            self._expect("and", "and")
            return Comparison(column, "between", (low, self._value()), negated, place)
        raise self.error("negated" if negated else "test")

    def _column(self) -> ColumnName:
        names = []
        while True:
            if self.kind == "name":
                names.append(self.token[1:-1].replace('""', '"'))
            elif self.kind == "word" and self.token.lower() not in KEYWORDS:
                names.append(self.token)
            else:
                raise self.error("field" if names else "column")
            self._next()
            if not self._accept("."):
                return tuple(names)

    def _value(self) -> Value:
        kind, token = self.kind, self.token
        value: Value
        if kind == "text":
            value = token[1:-1].replace("''", "'")
        elif kind == "number":
            value = _number(token)
            if not math.isfinite(value):
                raise self.error("finite")
        elif kind == "word" and token.lower() in ("true", "false"):
            value = token.lower() == "true"
        elif kind == "word" and token.lower() == "null":
            raise self.error("not-null")
        else:
            wrong = self.error("value")
            raise wrong.because("filter-unquoted", got=token[:40]) if kind == "word" else wrong
        self._next()
        return value

    def _pattern(self) -> str:
        if self.kind != "text":
            raise self.error("pattern")
        if len(self.token) > MAX_PATTERN_LENGTH:
            raise self.error("short-pattern")
        return str(self._value())

    def _accept(self, wanted: str) -> bool:
        """Consume the next token if it is this keyword or sign; return whether it was."""
        found = self.kind in ("word", "sign") and self.token.lower() == wanted
        if found:
            self._next()
        return found

    def _expect(self, wanted: str, expected: str) -> None:
        if not self._accept(wanted):
            raise self.error(expected)

    def _next(self) -> None:
        found = _TOKEN.match(self._text, self._end)
        if found:
            self.kind, self.token = str(found.lastgroup), str(found[str(found.lastgroup)])
            self.position, self._end = found.start(str(found.lastgroup)), found.end()
            return
        rest = self._text[self._end :].lstrip()
        self.position = len(self._text) - len(rest)
        self.kind, self.token = ("unknown", rest) if rest else ("end", "")
        if rest[:1] in ("'", '"'):
            self.token = rest
            raise self.error("quote" if rest[0] == "'" else "double-quote")


def _enclosed(condition: Condition, kinds: type | UnionType) -> str:
    return f"({to_text(condition)})" if isinstance(condition, kinds) else to_text(condition)


def _test_text(test: Comparison) -> str:
    name, negation, values = (
        column_text(test.column),
        "NOT " if test.negated else "",
        [_literal(v) for v in test.values],
    )
    if test.operator == "null":
        return f"{name} IS {negation}NULL"
    if test.operator == "in":
        return f"{name} {negation}IN ({', '.join(values)})"
    if test.operator == "between":
        return f"{name} {negation}BETWEEN {' AND '.join(values)}"
    operator = {"<>": "!="}.get(test.operator, test.operator.upper())
    return f"{name} {negation}{operator} {values[0]}"


def _literal(value: SqlValue) -> str:
    """Return the text of a value; equal numbers have the same text, such as 5 for 5.0."""
    if isinstance(value, bool | int):
        return str(value).lower()
    if isinstance(value, float | Decimal):
        if -(2**53) < value < 2**53 and value == int(value):
            return str(int(value))
        return f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)
    text = value if isinstance(value, str) else value.isoformat()
    return "'" + text.replace("'", "''") + "'"


def _number(token: str) -> int | float | Decimal:
    """Return a number exactly if DuckDB's 38 digits suffice, so that .1 also equals .1 in a column of float32."""
    if re.fullmatch(r"[+-]?\d{1,38}", token):
        return int(token)
    return Decimal(token) if re.fullmatch(r"[+-]?\d{0,20}\.\d{0,18}", token) else float(token)
