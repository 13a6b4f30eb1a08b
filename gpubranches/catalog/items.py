"""Reading the metadata files of segments: rows by id, schemas, errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gpubranches.catalog.metadata.tables import ParquetFile, cast, json_rows, unify_schemas
from gpubranches.catalog.segment import StoredTable
from gpubranches.catalog.storage import RESTORE
from gpubranches.errors import CatalogFormatError, GpuBranchesError, first_line

Source = Path | StoredTable
"""A path of a Parquet file, or a file of a segment, which is checked while it is read."""
_DAMAGED = (pa.ArrowException, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError)
"""Exceptions that reading a damaged file raises, those of Arrow included."""
_GROUPS_AT_ONCE = 32
"""Row groups that are read into memory at a time."""


@contextmanager
def opened(source: Source) -> Iterator[ParquetFile]:
    """Open a Parquet file. Raises CatalogFormatError with its name for any error of reading in the block."""
    path = source if isinstance(source, Path) else source.path
    try:
        with ParquetFile(source if isinstance(source, Path) else source.open()) as file:
            if file.schema_arrow.field("id").type != pa.int64():
                raise ValueError(f"id: expected int64, got {file.schema_arrow.field('id').type}")
            yield file
    except GpuBranchesError:
        raise
    except _DAMAGED as error:
        raise CatalogFormatError(
            f"{path}: damaged: it cannot be read as Parquet: {first_line(error)}; {RESTORE}"
        ) from error


def read_items(path: Source, ids: NDArray[np.int64]) -> dict[int, dict[str, Any]]:
    """Return {id: row} of the ids found in one metadata file, reading only the row groups that hold them."""
    return {row["id"]: row for row in json_rows(_read(path, ids))}


def read_table(
    parts: Iterable[tuple[Source, NDArray[np.int64]]], ids: NDArray[np.int64], schema: pa.Schema
) -> pa.Table:
    """Return the metadata of ids, one row per id in their order, with the columns of a schema; null if missing.

    parts: metadata files, each with the ids to search in it.
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


def schema_of(source: Source) -> pa.Schema:
    """Return the columns of a file."""
    with opened(source) as file:
        return file.schema_arrow


def unified_schema(sources: Sequence[Source]) -> pa.Schema:
    """Return the metadata columns of all files, `id` first, each with a type for all its values, or as text."""
    return unify_schemas([pa.schema([("id", pa.int64())]), *map(schema_of, sources)])


def column_names(sources: Sequence[Source]) -> list[str]:
    """Return the names of the metadata columns of all files, `id` first."""
    return list(dict.fromkeys(["id", *(name for source in sources for name in schema_of(source).names)]))


def read_all(sources: Sequence[Source], schema: pa.Schema, ids: NDArray[np.int64] | None = None) -> pa.Table:
    """Return the rows of all files with the columns of a schema. ids: (m,) int64, only these rows."""
    tables = [schema.empty_table()]
    for source in sources:
        with opened(source) as file:
            table = file.read()
            if ids is not None:
                table = table.filter(np.isin(table["id"].to_numpy(), ids))
            tables.append(cast(table, schema))
    return pa.concat_tables(tables)


def read_errors(sources: Sequence[Source]) -> pa.Table:
    """Return the inputs that could not be read, from all files: id, path, reason."""
    return read_all(sources, pa.schema([("id", pa.int64()), ("path", pa.string()), ("reason", pa.string())]))


def count_rows(sources: Sequence[Source]) -> int:
    """Return the number of rows of some files, from their footers."""
    total = 0
    for source in sources:
        with opened(source) as file:
            total += file.metadata.num_rows
    return total


def _read(source: Source, ids: NDArray[np.int64]) -> pa.Table:
    """Return the rows of ids in one metadata file, in its order, reading only the row groups that hold them."""
    with opened(source) as file:
        wanted = np.sort(ids)
        column = file.schema_arrow.get_field_index("id")
        groups = []
        for group in range(file.metadata.num_row_groups):
            bounds = file.metadata.row_group(group).column(column).statistics
            if np.searchsorted(wanted, bounds.max, "right") > np.searchsorted(wanted, bounds.min):
                groups.append(group)
        schema = unify_schemas([file.schema_arrow])
        tables = [schema.empty_table()]
        for start in range(0, len(groups), _GROUPS_AT_ONCE):
            table = cast(file.read_row_groups(groups[start : start + _GROUPS_AT_ONCE]), schema)
            tables.append(table.filter(np.isin(table["id"].to_numpy(), wanted)))
        return pa.concat_tables(tables)
