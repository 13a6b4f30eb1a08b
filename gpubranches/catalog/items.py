"""Metadata of items: rows by id, and the columns they have."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

_GROUPS_AT_ONCE = 32
"""Row groups of metadata that are in memory while some of their rows are taken."""


def read_items(path: Path, ids: NDArray[np.int64]) -> dict[int, dict[str, Any]]:
    """Return {id: row} of the ids found in one metadata file, reading only the row groups that hold them."""
    return {row["id"]: row for row in plain_rows(_read(path, ids))}


def read_table(parts: Iterable[tuple[Path, NDArray[np.int64]]], ids: NDArray[np.int64], schema: pa.Schema) -> pa.Table:
    """Return the metadata of ids, one row an id in their order, with the columns of a schema; null where there is none.

    parts: metadata files and which of the ids are looked for in each.
    """
    found = pa.concat_tables([schema.empty_table(), *(cast(_read(path, own), schema) for path, own in parts)])
    known = found["id"].to_numpy()
    order = np.argsort(known)
    at = np.searchsorted(known, ids, sorter=order)
    at[at == len(known)] = 0
    rows = order[at] if len(known) else np.zeros(len(ids), np.intp)
    missing = known[rows] != ids if len(known) else np.ones(len(ids), np.bool_)
    table = found.take(pa.array(rows, mask=missing))
    return table.set_column(table.column_names.index("id"), "id", pa.array(ids))


def unified_schema(paths: Sequence[Path]) -> pa.Schema:
    """Return the metadata columns over all files, `id` first; each has a type for all its values, text if need be."""
    kinds: dict[str, pa.DataType] = {"id": pa.int64()}
    for path in paths:
        for field in pq.read_schema(path):
            kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            kind = pa.string() if kind == pa.string_view() else kind
            kinds[field.name] = _wider(kinds.get(field.name, kind), kind)
    return pa.schema(list(kinds.items()))


def plain_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Return a table's rows as dicts of what JSON can hold, times to the microsecond; far ones as Arrow writes them."""
    for place, field in enumerate(table.schema):
        column = table.column(place)
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":  # Python has no finer ones
            column = column.cast(pa.timestamp("us", field.type.tz), safe=False)
        if pa.types.is_temporal(field.type) and not _python_holds(column):
            column = column.cast(pa.string())
        table = table.set_column(place, field.name, column)
    return [{name: plain(value) for name, value in row.items()} for row in table.to_pylist()]


def _read(path: Path, ids: NDArray[np.int64]) -> pa.Table:
    """Return the rows of ids in one metadata file, in its order, reading only the row groups that hold them."""
    file = pq.ParquetFile(path)
    wanted = np.sort(ids)
    column = file.schema_arrow.get_field_index("id")
    groups = []
    for group in range(file.metadata.num_row_groups):
        bounds = file.metadata.row_group(group).column(column).statistics
        if np.searchsorted(wanted, bounds.max, "right") > np.searchsorted(wanted, bounds.min):
            groups.append(group)
    tables = [_without_views(file.schema_arrow.empty_table())]
    for start in range(0, len(groups), _GROUPS_AT_ONCE):
        table = _without_views(file.read_row_groups(groups[start : start + _GROUPS_AT_ONCE]))
        tables.append(table.filter(np.isin(table["id"].to_numpy(), wanted)))
    return pa.concat_tables(tables)


def _without_views(table: pa.Table) -> pa.Table:
    """Return a table with plain texts in place of views of texts, of which Arrow takes no rows."""
    fields = [field.with_type(pa.string()) if field.type == pa.string_view() else field for field in table.schema]
    return table.cast(pa.schema(fields))


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    fields = [pa.schema([("", one)]), pa.schema([("", other)])]
    try:
        wider = pa.unify_schemas(fields, promote_options="permissive").field(0).type
        for kind in (one, other):
            pa.nulls(0, kind).cast(wider)
    except (pa.ArrowTypeError, pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.string()
    return wider


def cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the columns of a schema, null where it has none."""
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.chunked_array([pa.nulls(len(table), field.type)]))
            continue
        column = table[field.name]
        try:
            if pa.types.is_string(field.type) and _is_bytes(column.type):
                raise pa.ArrowNotImplementedError  # a cast would take any bytes for text
            # Of a type to one that holds its values; whole numbers beyond 2^53 are rounded among fractions.
            columns.append(column.cast(field.type, safe=False))
        except pa.ArrowNotImplementedError:  # what is nested has no text of its own
            texts = [None if value is None else str(plain(value)) for value in column.to_pylist()]
            columns.append(pa.chunked_array([pa.array(texts, field.type)]))
    return pa.table(columns, schema=schema)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _python_holds(column: pa.ChunkedArray) -> bool:
    """Return whether all dates and times of a column lie in the years 1 to 9999."""
    try:
        column.to_pylist()
    except (ValueError, OverflowError):
        return False
    return True


def column_names(paths: Sequence[Path]) -> list[str]:
    """Return the metadata columns over all files, `id` first."""
    names = (name for path in paths for name in pq.read_schema(path).names)
    return list(dict.fromkeys(["id", *names]))


def plain(value: Any) -> Any:
    """Return a value that JSON can hold: NaN becomes None, dates and bytes become text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {name: plain(v) for name, v in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else str(value)
