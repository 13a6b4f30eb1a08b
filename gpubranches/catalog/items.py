"""Metadata of items: rows by id, and SQL conditions turned into ids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gpubranches.errors import UsageError


def read_items(path: Path, ids: NDArray[np.int64]) -> dict[int, dict[str, Any]]:
    """Return {id: row} of the ids found in one metadata file, reading only the row groups that hold them."""
    file = pq.ParquetFile(path)
    wanted = np.sort(ids)
    column = file.schema_arrow.get_field_index("id")
    groups = []
    for group in range(file.metadata.num_row_groups):
        bounds = file.metadata.row_group(group).column(column).statistics
        if np.searchsorted(wanted, bounds.max, "right") > np.searchsorted(wanted, bounds.min):
            groups.append(group)
    table = file.read_row_groups(groups)
    table = table.filter(np.isin(table["id"].to_numpy(), wanted))
    return {row["id"]: {name: _plain(value) for name, value in row.items()} for row in table.to_pylist()}


def column_names(paths: Sequence[Path]) -> list[str]:
    """Return the metadata columns over all files, `id` first."""
    names = (name for path in paths for name in pq.read_schema(path).names)
    return list(dict.fromkeys(["id", *names]))


def select_ids(paths: Sequence[Path], condition: str) -> NDArray[np.int64]:
    """Return the ids, (m,) int64, whose metadata meet an SQL condition. Raises UsageError if it is not valid SQL.

    The connection sees the metadata and nothing else: no files, no network, no settings.
    """
    schemas = [pq.read_schema(path) for path in paths]
    schema = pa.unify_schemas(schemas, promote_options="permissive")
    items = ds.dataset([str(path) for path in paths], schema=schema, format="parquet")
    connection = duckdb.connect(":memory:")
    try:
        connection.register("items", items)
        connection.execute("SET enable_external_access = false; SET lock_configuration = true")
        if len(duckdb.extract_statements(f"SELECT id FROM items WHERE ({condition}\n)")) != 1:
            raise UsageError(f"where: expected one SQL condition, got {condition!r}")
        found = connection.execute(f"SELECT id FROM items WHERE ({condition}\n)").fetchnumpy()["id"]
    except duckdb.Error as error:
        names = ", ".join(column_names(paths))
        raise UsageError(f"where: expected an SQL condition over {names}; got {condition!r}: {error}") from error
    finally:
        connection.close()
    return np.asarray(found, np.int64)


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold: NaN becomes None, dates and bytes become text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else str(value)
