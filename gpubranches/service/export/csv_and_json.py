"""Matched items as text: CSV, JSON and JSON lines."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Generator, Iterable
from typing import Any

from gpubranches.service.export.item_table import ItemTable, Row

_UNSEEN = r"\s\x00-\x20\x7f-\xa0\xad\u034f\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\"'"
"""Characters that a spreadsheet ignores at the beginning of a cell: spaces, controls, zero-width ones, quotes."""
_FORMULA = re.compile(
    rf"(^(?=[\t\r\n])|(?:^|[;|\t\r\n\v\f\x1c-\x1e\x85\u2028\u2029])(?=[{_UNSEEN}]*[=+\-@\uff1d\uff0b\uff0d\uff20]))"
)
"""Matches a text that begins like a formula, or has such a part after a separator other than the comma."""


def write_csv(table: ItemTable) -> Generator[bytes, None, int]:
    """Yield a line of column names and one per item; return the number of items. Lists and objects are JSON.

    The text begins with a byte order mark, by which spreadsheets recognise UTF-8.
    """
    written = 0
    yield codecs.BOM_UTF8 + csv_lines([map(safe_cell, table.columns)])
    for rows in table.parts():
        yield csv_lines(map(safe_cell, row.values()) for row in rows)
        written += len(rows)
    return written


def write_json(table: ItemTable) -> Generator[bytes, None, int]:
    """Yield an array with one object per line; return the number of objects."""
    yield b"["
    written = yield from joined(table.parts())
    yield b"\n]\n"
    return written


def write_jsonl(table: ItemTable) -> Generator[bytes, None, int]:
    """Yield one object per line; return the number of objects."""
    written = 0
    for rows in table.parts():
        yield "".join(f"{json.dumps(row)}\n" for row in rows).encode()
        written += len(rows)
    return written


def joined(parts: Iterable[list[Row]]) -> Generator[bytes, None, int]:
    """Yield the elements of a JSON array without its brackets; return their number."""
    written = 0
    for rows in parts:
        if rows:
            yield ((",\n" if written else "\n") + ",\n".join(map(json.dumps, rows))).encode()
            written += len(rows)
    return written


def csv_lines(rows: Iterable[Iterable[Any]]) -> bytes:
    """Return rows as lines of CSV, in UTF-8; see `safe_cell` for texts that are not the program's own."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "replace")


def safe_cell(value: Any) -> Any:
    """Return a value that no spreadsheet takes for a formula: a text that begins like one gets an apostrophe.

    A part of a text gets one, too, if it would begin a cell under another separator than the comma. In some countries
    spreadsheets use another separator, and then quotes do not keep the text in one cell.
    """
    text = json.dumps(value) if isinstance(value, list | dict) else value
    return _FORMULA.sub(r"\1'", text) if isinstance(text, str) else text
