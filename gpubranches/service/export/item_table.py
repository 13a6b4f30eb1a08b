"""The items to export with their metadata, as a table that is read in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

    from gpubranches.catalog import Catalog
    from gpubranches.core.results import Ranking

Row = dict[str, Any]
BATCH_ROWS = 1 << 16
"""Items of a batch. Each batch scans the metadata of the catalog once."""
PART_ROWS = 1 << 12
"""Items that are converted to dicts at a time."""
_OWN = ("id", "score", "votes", "mark", "tier", "chance")


@dataclass(frozen=True)
class Known:
    """Columns of the items of a ranking, in addition to their scores.

    marks: item id -> +1 or -1; chances: returns the chances to be right, (m,), of items by their scores, (m,) float32;
    None if they are not estimated.
    """

    marks: Mapping[int, int] = field(default_factory=dict)
    chances: Callable[[NDArray[np.float32]], NDArray[np.float64]] | None = None


class ItemTable:
    """A table of items of a ranking, best first, with the catalog's columns; one batch is in memory at a time.

    rows: which of the ranking, as (m,) bool or as row numbers; None: all that matched. Deleted items are left out.
    reading: a context manager around the reading of each batch; a server thus reads each batch at its newest
    generation. The constructor reads the catalog, too, and must be called within such a context.

    source: the catalog's. schema: of every batch: id int64; score float32, null for an item that was marked right and
    not ranked; votes uint16, null where the model has no boxes; mark int8, 1 right, -1 wrong, null without one; tier
    string, one of TIERS for what matches; chance float32, to be right, 1 and 0 for marked items; tier and chance are
    null if no chance is estimated. Then come the catalog's columns; one that has such a name gets the prefix `item_`,
    as `item_score`.
    """

    def __init__(
        self,
        catalog: Catalog,
        ranking: Ranking,
        rows: NDArray[np.bool_] | NDArray[np.integer[Any]] | None = None,
        *,
        known: Known | None = None,
        reading: Callable[[], AbstractContextManager[None]] = nullcontext,
    ):
        import pyarrow as pa

        chosen = ranking.matched if rows is None else rows
        self.source = catalog.picture_source
        self._catalog = catalog
        self._ranking = ranking
        self._rows = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen
        self._known = Known() if known is None else known
        self._reading = reading
        self._metadata = catalog.item_schema()
        types = (pa.int64(), pa.float32(), pa.uint16(), pa.int8(), pa.string(), pa.float32())
        own = [pa.field(name, type) for name, type in zip(_OWN, types, strict=True)]
        others = [field for field in self._metadata if field.name != "id"]
        names = free_names([field.name for field in others], _OWN)
        self.schema = pa.schema([*own, *(field.with_name(name) for field, name in zip(others, names, strict=True))])

    def __len__(self) -> int:
        """Return how many items there are, deleted ones included."""
        return len(self._rows)

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self.schema.names)

    def take(self, rows: NDArray[np.intp]) -> ItemTable:
        """Return a table of some of the items, by their places in this one."""
        return ItemTable(self._catalog, self._ranking, self._rows[rows], known=self._known, reading=self._reading)

    def batches(self) -> Iterator[pa.Table]:
        """Yield tables of at most `BATCH_ROWS` items."""
        for start in range(0, len(self._rows), BATCH_ROWS):
            with self._reading():
                table = self._read(self._rows[start : start + BATCH_ROWS])
            yield table

    def parts(self) -> Iterator[list[Row]]:
        """Yield non-empty lists of at most `PART_ROWS` items, as dicts of values that JSON has."""
        from gpubranches.catalog.metadata.tables import json_rows

        for batch in self.batches():
            for start in range(0, batch.num_rows, PART_ROWS):
                yield json_rows(batch.slice(start, PART_ROWS))

    def following(self, rows: list[Row]) -> list[Row | None]:
        """Return the catalog's columns of the items with the next ids; None where the next id is not in the catalog."""
        ids = np.array([row["id"] for row in rows], np.int64) + 1
        with self._reading():
            alive = self._catalog.alive(ids)
            found = iter(self._catalog.items(ids[alive]))
        return [next(found) if there else None for there in alive.tolist()]

    def _read(self, rows: NDArray[Any]) -> pa.Table:
        import pyarrow as pa

        ranking = self._ranking
        alive = rows[self._catalog.alive(ranking.ids[rows])]
        items = self._catalog.item_table(ranking.ids[alive], self._metadata)
        votes = pa.nulls(len(alive), pa.uint16()) if ranking.votes is None else pa.array(ranking.votes[alive])
        scores = pa.array(ranking.scores[alive], from_pandas=True)  # nan becomes null
        others = items.drop_columns(["id"]).columns
        return pa.table([items["id"], scores, votes, *self._judged(alive), *others], schema=self.schema)

    def _judged(self, rows: NDArray[Any]) -> list[pa.Array]:
        """Return the columns mark, tier and chance of some rows."""
        import pyarrow as pa

        ranking, known = self._ranking, self._known
        marks = [known.marks.get(item) for item in ranking.ids[rows].tolist()]
        tiers = [ranking.tier(row) for row in rows]
        chances: list[float | None] = [None] * len(rows)
        if known.chances is not None:
            estimated = known.chances(ranking.scores[rows]).tolist()
            chances = [
                chance if mark is None else float(mark > 0) for chance, mark in zip(estimated, marks, strict=True)
            ]
        return [pa.array(marks, pa.int8()), pa.array(tiers, pa.string()), pa.array(chances, pa.float32())]


def free_names(names: list[str], taken: tuple[str, ...]) -> list[str]:
    """Return distinct names that are not in `taken`: names that are taken get the prefix `item_`."""
    free = []
    for name in names:
        new = name
        while new in taken or (new != name and new in names):
            new = f"item_{new}"
        free.append(new)
    return free
