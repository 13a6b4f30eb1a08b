"""The metadata of a catalog as one table: the ids that meet a condition, and the frequent values of columns."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gpubranches.catalog.items import Source, opened, unified_schema
from gpubranches.catalog.metadata.condition_sql import to_sql
from gpubranches.catalog.metadata.conditions import (
    MAX_LENGTH,
    ColumnName,
    Kind,
    SqlValue,
    column_text,
    columns_of,
    parse,
    value_condition,
)
from gpubranches.catalog.metadata.tables import cast, valid_utf8
from gpubranches.errors import CatalogFormatError, UsageError, first_line

MOST_VALUES = 1_000
"""Largest number of different values of a column whose frequent values are listed."""
LISTED_VALUES = 12
"""The largest number of frequent values of a column in a list."""
_ROWS_AT_ONCE = 1 << 17
_LISTED: tuple[Kind, ...] = ("number", "text", "boolean", "date")
"""Kinds of columns whose values are listed."""


@dataclass(frozen=True)
class Column:
    """A column of the metadata. Its most frequent values come with their counts; a column with many values has none."""

    name: ColumnName
    kind: Kind
    values: tuple[tuple[SqlValue | None, int], ...] = ()


class MetadataTable:
    """The metadata of a catalog's files as one table, for filters and counts.

    bare: ids, (m,) int64, of items that are in no file, or None; all their columns are missing.
    """

    def __init__(self, sources: Sequence[Source], bare: NDArray[np.int64] | None = None):
        self._sources, self._bare = sources, bare
        self._schema = unified_schema(sources)
        types = dict(_columns((), self._schema))
        self.kinds = {name: _kind(type_) for name, type_ in types.items()}
        # A column that cannot be compared is read as whether it has a value.
        self._types = {
            name: pa.bool_() if self.kinds[name] == "other" else _readable(type_) for name, type_ in types.items()
        }

    def select(self, condition: str) -> NDArray[np.int64]:
        """Return the ids, (m,) int64, whose metadata meet a condition of `conditions.parse`. Raises UsageError."""
        parsed = parse(condition)
        sql, values = to_sql(parsed, self.kinds)
        with self._opened(columns_of(parsed)) as connection:
            # The text consists of parsed tokens and column numbers; values are bound.
            found = connection.execute(f"SELECT id FROM items WHERE {sql}", values).fetchnumpy()["id"]  # nosec B608
        return np.asarray(found, np.int64)

    def columns(self, deleted: NDArray[np.int64]) -> list[Column]:
        """Return all columns, with the most frequent values of columns with few distinct ones.

        deleted: (m,) int64, ids of deleted rows, which are not counted.
        """
        named = [name for name, kind in self.kinds.items() if kind in _LISTED]
        with self._opened(named, deleted) as connection:
            counts = ", ".join(f"approx_count_distinct(c{place}), count(c{place})" for place in range(len(named)))
            numbers = connection.execute(f"SELECT {counts} FROM items").fetchone() if named else ()  # nosec B608  # numbers
        few = [
            name
            for name, distinct, there in zip(named, numbers[::2], numbers[1::2], strict=True)
            if distinct <= MOST_VALUES and 4 * distinct <= 3 * there
        ]
        return [
            Column(name, kind, self._frequent(name, deleted) if name in few else ())
            for name, kind in self.kinds.items()
        ]

    def _frequent(self, name: ColumnName, deleted: NDArray[np.int64]) -> tuple[tuple[SqlValue | None, int], ...]:
        query = "SELECT c0, count(*) AS n FROM items GROUP BY c0 ORDER BY n DESC, c0 LIMIT ?"
        with self._opened([name], deleted) as connection:
            found = connection.execute(query, [LISTED_VALUES]).fetchall()
        kind = self.kinds[name]
        return tuple((value, count) for value, count in found if _can_be_asked(name, value, kind))

    @contextmanager
    def _opened(self, columns: Sequence[ColumnName], deleted: NDArray[np.int64] | None = None) -> Iterator[Any]:
        """Open a connection whose only table is `items`, with id and the columns as c0, c1, ...

        The table can be read once.
        """
        damaged: list[CatalogFormatError] = []
        names = {f"c{place}": name for place, name in enumerate(columns)}
        schema = pa.schema([pa.field("id", pa.int64()), *((own, self._types[name]) for own, name in names.items())])
        batches = (
            batch
            for table in self._tables({name[0] for name in columns}, damaged)
            for batch in _live(table, names, schema, deleted).to_batches()
        )
        connection = _database(os.getpid()).cursor()  # registers tables of its own
        try:
            connection.register("items", pa.RecordBatchReader.from_batches(schema, batches))
            yield connection
        except (duckdb.Error, pa.ArrowException, CatalogFormatError) as error:
            if damaged:
                raise damaged[0] from error
            listed = ", ".join(column_text(name) for name in columns[:5])
            raise UsageError(
                f"where: expected values of {listed} that can be compared, got: {first_line(error)}"
            ) from error
        finally:
            connection.close()

    def _tables(self, names: set[str], damaged: list[CatalogFormatError]) -> Iterator[pa.Table]:
        """Yield tables of id and some columns with the types of `unified_schema`, some rows at a time.

        damaged: gets the exception of a damaged file, since DuckDB, which requests the tables, then raises its own.
        """
        try:
            yield from self._read({"id", *names})
        except CatalogFormatError as error:
            damaged.append(error)
            raise

    def _read(self, names: set[str]) -> Iterator[pa.Table]:
        schema = pa.schema([field for field in self._schema if field.name in names])
        for source in self._sources:
            with opened(source) as file:
                here = [name for name in schema.names if name in file.schema_arrow.names]
                for batch in file.iter_batches(_ROWS_AT_ONCE, columns=here):
                    yield cast(pa.Table.from_batches([batch]), schema)
        if self._bare is not None and len(self._bare):
            yield cast(pa.table({"id": self._bare}), schema)


@cache
def _database(process: int) -> duckdb.DuckDBPyConnection:
    """Open the database of a process, since each takes 20 ms to open and a fork cannot use that of its parent.

    It is empty, reads no files and no network, and its settings are locked.
    """
    settings = {"enable_external_access": "false", "lock_configuration": "true"}
    return duckdb.connect(":memory:", config=settings)


def _can_be_asked(name: ColumnName, value: Any, kind: Kind) -> bool:
    """Return whether a condition can name a value of DuckDB: no infinity, no date out of range, no text too long."""
    if value is None:
        return True
    if kind in ("number", "date") and not (isinstance(value, date) if kind == "date" else math.isfinite(value)):
        return False
    return len(value_condition(name, value)) <= MAX_LENGTH


def _live(
    table: pa.Table, names: Mapping[str, ColumnName], schema: pa.Schema, deleted: NDArray[np.int64] | None
) -> pa.Table:
    """Return columns by their names in a query, with NaN as missing, and without deleted rows."""
    if deleted is not None and len(deleted):
        table = table.filter(~np.isin(table["id"].to_numpy(), deleted))
    columns = [table["id"]]
    for name in names.values():
        column = table[name[0]]
        if len(name) > 1:
            column = valid_utf8(pc.struct_field(column, list(name[1:])))
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        type_ = schema.field(len(columns)).type
        if pa.types.is_boolean(type_) and not pa.types.is_boolean(column.type):
            column = pc.if_else(pc.is_valid(column), True, pa.scalar(None, pa.bool_()))
        columns.append(column.cast(type_, safe=False))
    return pa.table(columns, schema=schema)


def _readable(type_: pa.DataType) -> pa.DataType:
    """Return the nearest type that DuckDB reads."""
    if pa.types.is_float16(type_):
        return pa.float32()
    if pa.types.is_decimal256(type_):
        return pa.float64()
    return pa.timestamp("us", type_.tz) if pa.types.is_timestamp(type_) else type_


def _columns(above: ColumnName, fields: Iterable[pa.Field]) -> Iterator[tuple[ColumnName, pa.DataType]]:
    for field in fields:
        name = (*above, field.name)
        if pa.types.is_struct(field.type):
            yield from _columns(name, field.type.fields)
        else:
            yield name, field.type


def _kind(type_: pa.DataType) -> Kind:
    if pa.types.is_dictionary(type_):
        return _kind(type_.value_type)
    if pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_):
        return "number"
    if pa.types.is_timestamp(type_):
        return "time with zone" if type_.tz else "time"
    named: tuple[tuple[Callable[[pa.DataType], bool], Kind], ...] = (
        (pa.types.is_string, "text"),
        (pa.types.is_large_string, "text"),
        (pa.types.is_boolean, "boolean"),
        (pa.types.is_date, "date"),
        (pa.types.is_null, "nothing"),
    )
    return next((kind for fits, kind in named if fits(type_)), "other")
