"""Matched items as text: CSV, JSON and JSON lines."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Generator, Iterable
from typing import Any

from gpubranches.export.matches import Matches, Row

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def write_csv(matches: Matches) -> Generator[bytes, None, int]:
    """Yield a line of column names and one an item; return how many items. Lists and objects are JSON in their cell.

    It begins with the byte order mark by which spreadsheets know UTF-8.
    """
    written = 0
    yield codecs.BOM_UTF8 + _lines([matches.columns])
    for rows in matches.parts():
        yield _lines(row.values() for row in rows)
        written += len(rows)
    return written


def write_json(matches: Matches) -> Generator[bytes, None, int]:
    """Yield an array of objects, one a line; return how many."""
    yield b"["
    written = yield from joined(matches.parts())
    yield b"\n]\n"
    return written


def write_jsonl(matches: Matches) -> Generator[bytes, None, int]:
    """Yield one object a line; return how many."""
    written = 0
    for rows in matches.parts():
        yield "".join(f"{json.dumps(row)}\n" for row in rows).encode()
        written += len(rows)
    return written


def joined(parts: Iterable[list[Row]]) -> Generator[bytes, None, int]:
    """Yield what stands between the brackets of a JSON array; return how many objects that is."""
    written = 0
    for rows in parts:
        if rows:
            yield ((",\n" if written else "\n") + ",\n".join(map(json.dumps, rows))).encode()
            written += len(rows)
    return written


def _lines(rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode("utf-8", "replace")


def _cell(value: Any) -> Any:
    """Return a value that no spreadsheet takes for a formula: a text that begins like one gets an apostrophe."""
    if isinstance(value, list | dict):
        return json.dumps(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
