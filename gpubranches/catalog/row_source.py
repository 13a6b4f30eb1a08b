"""Sources of the rows of a catalog: what every input looks like to it, and arrays in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpubranches.catalog.metadata.columns import renamed_columns, repeated_column
from gpubranches.core.files import escaped_path
from gpubranches.errors import ArrayError, UsageError, first_line

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["embeddings", "codes"]


class RowSource(Protocol):
    """Rows of embeddings (float16 or float32) or codes (uint8), with metadata.

    kind; n rows; dim columns; roots: folders of pictures by the input's name.
    """

    kind: Kind
    n: int
    dim: int
    roots: dict[str, str]

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows as stored, (m, dim)."""
        ...

    def items(self, start: int, stop: int) -> pa.Table | None:
        """Return the metadata of rows start..stop-1, or None."""
        ...

    def reasons(self, start: int, stop: int) -> Sequence[str | None] | None:
        """Return why rows start..stop-1 could not be read, with None for readable rows; None if all could be read."""
        ...


class EmbeddingArray:
    """Embeddings in memory, with metadata.

    embeddings: (n, D) floats. metadata: n rows, anything that `pyarrow.table` takes: a table, a dict of columns, a
    DataFrame. pictures: the folder that the column `image_path` is relative to. Raises ArrayError or UsageError for
    other values.
    """

    kind: Kind = "embeddings"

    def __init__(self, embeddings: ArrayLike, metadata: Any = None, pictures: str | Path | None = None):
        self._array = np.asarray(embeddings)
        if self._array.ndim != 2 or self._array.dtype.kind != "f" or not self._array.size:
            raise ArrayError(
                f"embeddings: expected floats of shape (n, D), got {self._array.dtype} of shape {self._array.shape}"
            )
        self.n, self.dim = self._array.shape
        self._table = None if metadata is None else _table(metadata, self.n)
        self.roots: dict[str, str] = {}
        if pictures is not None:
            if not os.path.isdir(pictures):
                raise UsageError(f"{escaped_path(str(pictures))}: expected the folder of the pictures, found none")
            self.roots = {"": os.path.realpath(pictures)}

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows, (m, D)."""
        return self._array[rows]

    def items(self, start: int, stop: int) -> pa.Table | None:
        """Return the metadata of rows start..stop-1, or None."""
        return None if self._table is None else self._table.slice(start, stop - start)

    def reasons(self, start: int, stop: int) -> None:
        """Return None: invalid rows are found by their values."""


def _table(metadata: Any, n: int) -> pa.Table:
    """Return metadata as a table of n rows, with columns that have the program's names renamed."""
    import pyarrow as pa

    try:
        table = metadata if isinstance(metadata, pa.Table) else pa.table(metadata)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise UsageError(
            f"metadata: expected a pyarrow table, a dict of columns or a DataFrame, got {type(metadata).__name__}: "
            f"{first_line(error)}"
        ) from error
    if len(table) != n:
        raise UsageError(f"metadata: expected {n:,} rows, one per embedding, got {len(table):,}")
    if (name := repeated_column(table.schema)) is not None:
        raise UsageError(f"metadata: expected columns of distinct names, got {name} twice; rename one")
    names = renamed_columns(table.column_names)
    return table.rename_columns([names.get(name, name) for name in table.column_names])
