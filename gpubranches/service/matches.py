"""The items of an answer, as arrays, as a table and as files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import among
from gpubranches.errors import BackendUnavailableError
from gpubranches.service.export import ItemTable, export_items
from gpubranches.service.export.item_table import Known

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from gpubranches.catalog import Catalog
    from gpubranches.core.results import Ranking


@dataclass(frozen=True, eq=False, repr=False)
class Matches:
    """Items of an answer, best first: the matches, or another part of the answer.

    ranking: the ranking that has them; rows: (m,) intp, their rows in it; known: further columns of each item for
    tables. Tables and files hold their metadata as the catalog has them now, and leave out items that were deleted
    since the answer.
    """

    catalog: Catalog
    ranking: Ranking
    rows: NDArray[np.intp]
    known: Known = field(default_factory=Known)

    def __repr__(self) -> str:
        return f"<Matches: {len(self):,} items>"

    def __len__(self) -> int:
        """Return the number of items, including items deleted since."""
        return len(self.rows)

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids of the items, (m,) int64."""
        return self.ranking.ids[self.rows]

    @property
    def scores(self) -> NDArray[np.float32]:
        """Scores of the items, (m,) float32, descending; the cut lies at `ranking.threshold`.

        Items that were marked right and not ranked are last, with nan.
        """
        return self.ranking.scores[self.rows]

    def unmarked(self) -> Matches:
        """Return the items that have no mark."""
        return replace(self, rows=self.rows[~among(self.ids, np.fromiter(self.known.marks, np.int64))])

    def least_sure_first(self) -> Matches:
        """Return the items by the distance of their score from the cut, the nearest first; items without one last."""
        distances = np.abs(self.scores.astype(np.float64) - self.ranking.threshold)
        return replace(self, rows=self.rows[np.argsort(distances, kind="stable")])

    def table(self, *, reading: Callable[[], AbstractContextManager[None]] = nullcontext) -> ItemTable:
        """Return the items with their metadata as a table that is read in batches; reading: see `ItemTable`."""
        return ItemTable(self.catalog, self.ranking, self.rows, known=self.known, reading=reading)

    def to_arrow(self) -> pa.Table:
        """Return a table of all items, see `ItemTable`."""
        import pyarrow as pa

        table = self.table()
        return pa.concat_tables([table.schema.empty_table(), *table.batches()])

    def to_pandas(self) -> pd.DataFrame:
        """Return the table of `to_arrow` as a DataFrame. Raises BackendUnavailableError without pandas."""
        try:
            import pandas  # noqa: F401  # pyarrow imports it, and its own message names no package to install
        except ImportError as error:
            raise BackendUnavailableError(f"to_pandas needs pandas ({error}); pip install pandas") from error
        return self.to_arrow().to_pandas()

    def to_csv(self, path: str | Path) -> int:
        """Write the items as CSV; return how many were written. Errors as of `export_items`."""
        return self.export(path, "csv")

    def export(self, path: str | Path, format: str | None = None) -> int:
        """Write the items to a file; return the number written.

        format: a name in `export.FORMATS`, None takes it from the ending of the path. Errors as of `export_items`.
        """
        return export_items(self.table(), Path(path), format)
