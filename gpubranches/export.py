"""Writing results: matched items as CSV, Parquet or JSON; boxes as SQL or JSON. Files appear whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from gpubranches.boxes import Boxes
from gpubranches.errors import DataError, UsageError

Row = dict[str, Any]


def export_items(rows: Sequence[Row], path: Path, format: str | None = None) -> None:
    """Write matched items, dicts with `id`, `score`, `votes` and metadata, in the order given.

    format: "csv", "parquet" or "json"; None takes it from the file's ending. Raises UsageError for another,
    DataError when the file cannot be written; then an older file at `path` is left as it was.
    """
    write = _choose(_ITEM_WRITERS, path, format)
    _write_whole(path, lambda file: write(rows, file))


def export_boxes(boxes: Boxes, path: Path, format: str | None = None, *, min_votes: int = 1) -> None:
    """Write boxes as "sql" (a query over a table `codes` with columns id, c0, c1, ...) or "json".

    Errors as in `export_items`.
    """
    write = _choose(_BOX_WRITERS, path, format)
    _write_whole(path, lambda file: write(boxes, file, min_votes))


def _choose(writers: dict[str, Any], path: Path, format: str | None) -> Any:
    name = path.suffix.lstrip(".").lower() if format is None else format
    if name not in writers:
        raise UsageError(f"export: expected one of {', '.join(writers)}, got {name!r}; name the format or the ending")
    return writers[name]


def _write_whole(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot write: {error.strerror or error}; check the folder and the space") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(["id", "score", "votes", *(name for row in rows for name in row)]))


def _items_csv(rows: Sequence[Row], file: IO[bytes]) -> None:
    columns = _columns(rows)
    writer = csv.DictWriter(_Utf8(file), columns, restval="")
    writer.writerow({name: _cell(name) for name in columns})
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    """Return a value that no spreadsheet takes for a formula: a text that begins like one gets an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _items_json(rows: Sequence[Row], file: IO[bytes]) -> None:
    file.write(json.dumps(list(rows), indent=1, default=str).encode("utf-8", "replace") + b"\n")


def _items_parquet(rows: Sequence[Row], file: IO[bytes]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    fixed = {"id": pa.int64(), "score": pa.float32(), "votes": pa.uint16()}
    arrays = {name: pa.array([row.get(name) for row in rows], fixed.get(name)) for name in _columns(rows)}
    pq.write_table(pa.table(arrays), file)


def _boxes_sql(boxes: Boxes, file: IO[bytes], min_votes: int) -> None:
    file.write((boxes.to_sql("codes", min_votes=min_votes) + ";\n").encode())


def _boxes_json(boxes: Boxes, file: IO[bytes], min_votes: int) -> None:
    file.write(json.dumps({**boxes.to_json(), "min_votes": min_votes}).encode() + b"\n")


class _Utf8:
    """The text side of a binary file, for the csv module."""

    def __init__(self, file: IO[bytes]):
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode("utf-8", "replace"))


_ITEM_WRITERS = {"csv": _items_csv, "parquet": _items_parquet, "json": _items_json}
_BOX_WRITERS = {"sql": _boxes_sql, "json": _boxes_json}
ITEM_FORMATS = tuple(_ITEM_WRITERS)
BOX_FORMATS = tuple(_BOX_WRITERS)
