"""Sources made of other sources: ranges of a source, and several sources in sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog.row_source import Kind, RowSource
from gpubranches.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa


class SourceRanges:
    """Ranges (start, stop) of the rows of a source, in sequence, as a source."""

    def __init__(self, source: RowSource, ranges: Sequence[tuple[int, int]]):
        self._source, self._ranges = source, ranges
        self.kind, self.dim, self.roots = source.kind, source.dim, source.roots
        self._starts = np.cumsum([0, *(stop - start for start, stop in ranges)])
        self.n = int(self._starts[-1])

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows, (m, dim)."""
        owner = np.searchsorted(self._starts, rows, "right") - 1
        firsts = np.array([start for start, _ in self._ranges], np.int64)
        return self._source.take(firsts[owner] + rows - self._starts[owner])

    def items(self, start: int, stop: int) -> pa.Table | None:
        """Return the metadata of rows start..stop-1, or None."""
        from gpubranches.catalog.metadata.tables import unify_tables

        tables = [self._source.items(low, high) for low, high in self._parts(start, stop)]
        there = [table for table in tables if table is not None]
        return unify_tables(there) if there else None

    def reasons(self, start: int, stop: int) -> Sequence[str | None] | None:
        """Return the reasons of the source why rows could not be read."""
        reasons: list[str | None] = []
        for low, high in self._parts(start, stop):
            reasons += self._source.reasons(low, high) or [None] * (high - low)
        return reasons

    def _parts(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the ranges of the source that rows start..stop-1 come from."""
        parts = []
        for first, (low, high) in zip(self._starts.tolist(), self._ranges, strict=False):
            part = max(low, low + start - first), min(high, low + stop - first)
            if part[0] < part[1]:
                parts.append(part)
        return parts


class JoinedSources:
    """Several sources in sequence as one source; the column `input` names the source of each row."""

    def __init__(self, sources: Sequence[RowSource], names: Sequence[str]):
        kinds = {source.kind for source in sources}
        dims = {source.dim for source in sources}
        if len(kinds) > 1 or len(dims) > 1:
            raise UsageError(f"inputs: expected all embeddings or all codes of equal dims, got {kinds} and {dims}")
        self._sources, self._names = sources, names
        self.kind: Kind = sources[0].kind
        self.dim = sources[0].dim
        self._starts = np.cumsum([0, *(source.n for source in sources)])
        self.n = int(self._starts[-1])
        self.roots = {name: root for name, source in zip(names, sources, strict=True) for root in source.roots.values()}

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows, (m, dim)."""
        owner = np.searchsorted(self._starts, rows, "right") - 1
        out = np.zeros((len(rows), self.dim), np.uint8 if self.kind == "codes" else np.float32)
        for index in np.unique(owner):
            at = owner == index
            out[at] = self._sources[index].take(rows[at] - self._starts[index])
        return out

    def items(self, start: int, stop: int) -> pa.Table | None:
        """Return the metadata of rows start..stop-1 with the column `input`."""
        import pyarrow as pa

        from gpubranches.catalog.metadata.tables import unify_tables

        tables = []
        for first, source, name in zip(self._starts, self._sources, self._names, strict=False):
            low, high = max(start - int(first), 0), min(stop - int(first), source.n)
            if low < high:
                columns = {"input": pa.array([name] * (high - low))}
                table = source.items(low, high)
                if table is not None:
                    columns |= {column: table[column] for column in table.column_names}
                tables.append(pa.table(columns))
        return unify_tables(tables) if tables else None

    def reasons(self, start: int, stop: int) -> Sequence[str | None] | None:
        """Return why rows start..stop-1 could not be read."""
        reasons: list[str | None] = []
        for first, source in zip(self._starts.tolist(), self._sources, strict=False):
            low, high = max(start - first, 0), min(stop - first, source.n)
            if low < high:
                reasons += source.reasons(low, high) or [None] * (high - low)
        return reasons
