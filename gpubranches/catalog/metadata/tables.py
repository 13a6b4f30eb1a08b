"""Arrow tables of files with any column types: unified, and converted to values that JSON has."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types


def unify_schemas(schemas: Iterable[pa.Schema]) -> pa.Schema:
    """Return the columns of all schemas, each with a type for all its values, or as text."""
    kinds: dict[str, pa.DataType] = {}
    for schema in schemas:
        for field in schema:
            kind = _storage_type(field.type)
            kind = kind if _is_storable(kind) else pa.string()
            kinds[field.name] = _common_type(kinds.get(field.name, kind), kind)
    return pa.schema(list(kinds.items()))


def unify_tables(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of one or several tables, with the columns of `unify_schemas`."""
    schema = unify_schemas(table.schema for table in tables)
    return pa.concat_tables([cast(table, schema) for table in tables])


def cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the columns of a schema; columns that it lacks become null."""
    columns = []
    present = dict(zip(table.column_names, table.columns, strict=True))  # table[name] would look at all names
    for field in schema:
        if field.name not in present:
            columns.append(pa.chunked_array([pa.nulls(len(table), field.type)]))
            continue
        column = present[field.name]
        try:
            if types.is_string(field.type) and not _has_text(column.type):
                raise pa.ArrowNotImplementedError  # a cast would accept any bytes as text
            # The new type holds all values, except that whole numbers beyond 2^53 are rounded to floats.
            same = column if column.type == field.type else column.cast(field.type, safe=False)
            columns.append(valid_utf8(same))
        except pa.ArrowNotImplementedError:
            texts = [value if isinstance(value, str | None) else json.dumps(value) for value in json_values(column)]
            columns.append(pa.chunked_array([pa.array(texts, field.type)]))
    return pa.table(columns, schema=schema)


class ParquetFile(pq.ParquetFile):  # type: ignore[misc]  # noqa: TID251
    """A Parquet file that Arrow reads in the thread of the caller only.

    A thread of Arrow would release the source only after the read has returned. If the source is an object of Python
    and the interpreter ends meanwhile, this aborts the process.
    """

    def __init__(self, source: Any, **options: Any):
        try:
            super().__init__(source, pre_buffer=False, **options)
        except UnicodeDecodeError as error:  # pyarrow lets it pass
            raise pa.ArrowInvalid("the name of a column is not UTF-8") from error

    def read(self, *arguments: Any, **options: Any) -> pa.Table:
        """Return all rows, see `pyarrow.parquet.ParquetFile.read`."""
        return super().read(*arguments, use_threads=False, **options)

    def read_row_groups(self, *arguments: Any, **options: Any) -> pa.Table:
        """Return the rows of some row groups, see `pyarrow.parquet.ParquetFile.read_row_groups`."""
        return super().read_row_groups(*arguments, use_threads=False, **options)

    def iter_batches(self, *arguments: Any, **options: Any) -> Iterator[pa.RecordBatch]:
        """Yield the rows in batches, see `pyarrow.parquet.ParquetFile.iter_batches`."""
        return iter(super().iter_batches(*arguments, use_threads=False, **options))


def read_parquet(source: Path | pa.NativeFile, columns: list[str] | None = None) -> pa.Table:
    """Return the table of one Parquet file. Arrow gets an open file: it may reject a path.

    Raises OSError or pa.ArrowException if it cannot be read.
    """
    with source.open("rb") if isinstance(source, Path) else source as file, ParquetFile(file) as table:
        return table.read(columns)


def json_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a table as dicts of values that JSON has, see `json_value` and `json_values`."""
    columns = [json_values(column) for column in table.columns]
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def json_values(column: pa.ChunkedArray) -> list[Any]:
    """Return the values of a column as values that JSON has.

    Times have microseconds; those out of Python's range are written as by Arrow. Maps become objects. In bytes, and in
    texts that are not UTF-8, invalid bytes become U+FFFD.
    """
    kind = column.type
    if types.is_integer(kind) or types.is_boolean(kind):
        values: list[Any] = column.to_pylist()
        return values
    if _is_python_type(kind):
        try:
            return [json_value(value) for value in column.to_pylist()]
        except (ValueError, OverflowError, KeyError):  # out of range, not UTF-8, or of a time zone unknown to pytz
            pass
    return [_json_scalar(value) for value in column]


def json_value(value: Any) -> Any:
    """Convert a Python value to a JSON value: NaN becomes None, dates and bytes become text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, list):
        return [json_value(v) for v in value]
    if isinstance(value, dict):
        return {name: json_value(v) for name, v in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _is_python_type(kind: pa.DataType) -> bool:
    """Return whether Arrow converts most values of a type to Python without loss."""
    if kind.num_fields:
        return not types.is_map(kind) and all(_is_python_type(kind.field(at).type) for at in range(kind.num_fields))
    return getattr(kind, "unit", "") != "ns" and not types.is_dictionary(kind)


def _json_scalar(value: pa.Scalar) -> Any:
    """Return one value of Arrow as a value that JSON has."""
    if not value.is_valid:
        return None
    kind = value.type
    if types.is_struct(kind):
        return {field.name: _json_scalar(value[at]) for at, field in enumerate(kind)}
    if types.is_map(kind):
        return {str(_json_scalar(pair[0])): _json_scalar(pair[1]) for pair in value.values}
    if types.is_nested(kind):
        return [_json_scalar(inner) for inner in value.values]
    if types.is_dictionary(kind):
        return _json_scalar(value.value)
    if getattr(kind, "unit", "") == "ns":
        value = value.cast(_microsecond_type(kind), safe=False)
    try:
        return json_value(value.as_py())
    except (ValueError, OverflowError, KeyError):
        return _as_text(value)


def _microsecond_type(kind: pa.DataType) -> pa.DataType:
    """Return the type in microseconds for one in nanoseconds, which Python does not have."""
    if types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    return pa.duration("us") if types.is_duration(kind) else pa.time64("us")


def _as_text(value: pa.Scalar) -> str:
    """Return a value as text that Python cannot represent."""
    kind = value.type
    if types.is_duration(kind):
        return f"{value.value} {kind.unit}"
    if types.is_timestamp(kind) and kind.tz:  # Arrow's text of such a time is wrong, or the zone is unknown
        return f"{value.cast(pa.timestamp(kind.unit)).cast(pa.string())}Z"
    if types.is_temporal(kind):
        return str(value.cast(pa.string()))
    return str(value.as_buffer().to_pybytes().decode("utf-8", "replace"))


def _storage_type(kind: pa.DataType) -> pa.DataType:
    """Return a type for the same values that all of Arrow supports: no dictionaries, views or, in lists, extensions."""
    if types.is_dictionary(kind):
        return _storage_type(kind.value_type)
    if kind == pa.string_view():
        return pa.string()
    if kind == pa.binary_view():
        return pa.binary()
    if types.is_struct(kind):
        return pa.struct([_inner(field) for field in kind])
    if types.is_map(kind):
        return pa.map_(_inner(kind.key_field), _inner(kind.item_field))
    if types.is_fixed_size_list(kind):
        return pa.list_(_inner(kind.value_field), kind.list_size)
    if types.is_large_list(kind) or types.is_large_list_view(kind):
        return pa.large_list(_inner(kind.value_field))
    if types.is_list(kind) or types.is_list_view(kind):
        return pa.list_(_inner(kind.value_field))
    return kind


@cache
def _is_storable(kind: pa.DataType) -> bool:
    """Return whether Parquet has a type; it lacks intervals, unions and structs without fields, for example."""
    try:
        pq.write_table(pa.table({"": pa.nulls(0, kind)}), pa.BufferOutputStream())
    except (pa.ArrowException, OSError):
        return False
    return True


def _inner(field: pa.Field) -> pa.Field:
    kind = field.type
    return field.with_type(_storage_type(kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind))


def _common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if one == other:
        return one
    fields = [pa.schema([("", one)]), pa.schema([("", other)])]
    try:
        wider = pa.unify_schemas(fields, promote_options="permissive").field(0).type
        for kind in (one, other):
            pa.nulls(0, kind).cast(wider)
    except (pa.ArrowTypeError, pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.string()
    return wider


def valid_utf8(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column whose texts are valid UTF-8; invalid bytes become U+FFFD."""
    if not (types.is_string(column.type) or types.is_large_string(column.type)):
        return column
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return pa.chunked_array([pa.array(json_values(column), column.type)])
    return column


def _has_text(kind: pa.DataType) -> bool:
    """Return whether Arrow can write all values of a type as texts."""
    return not (
        types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind) or kind.num_fields
    )
