"""Metadata of items: rows by id, and the columns they have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gpubranches.metadata.tables import cast, plain_rows, unified

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
    return unified([pa.schema([("id", pa.int64())]), *map(pq.read_schema, paths)])


def column_names(paths: Sequence[Path]) -> list[str]:
    """Return the metadata columns over all files, `id` first."""
    names = (name for path in paths for name in pq.read_schema(path).names)
    return list(dict.fromkeys(["id", *names]))


def read_errors(paths: Sequence[Path]) -> pa.Table:
    """Return the inputs that could not be read, from all files: id, path, reason."""
    schema = pa.schema([("id", pa.int64()), ("path", pa.string()), ("reason", pa.string())])
    return pa.concat_tables([schema.empty_table(), *(cast(pq.read_table(path), schema) for path in paths)])


def count_rows(paths: Sequence[Path]) -> int:
    """Return how many rows some files have, without reading these."""
    return sum(pq.read_metadata(path).num_rows for path in paths)


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
    schema = unified([file.schema_arrow])
    tables = [schema.empty_table()]
    for start in range(0, len(groups), _GROUPS_AT_ONCE):
        table = cast(file.read_row_groups(groups[start : start + _GROUPS_AT_ONCE]), schema)
        tables.append(table.filter(np.isin(table["id"].to_numpy(), wanted)))
    return pa.concat_tables(tables)
