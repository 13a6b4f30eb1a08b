"""A sample of a catalog's rows that stays the same while the catalog changes little."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog.snapshot import Snapshot
from gpubranches.core.tie_order import splitmix64
from gpubranches.errors import UsageError

STEPS = 8
"""Steps from one size of a catalog to twice that size: the sample changes each time the catalog grows by 9%."""
MOST_DELETED = 0.1
"""The largest share of deleted rows up to which deleted rows may be drawn."""


@dataclass(frozen=True, eq=False)
class SteadySample:
    """Rows of a snapshot, drawn by a hash of their ids. The same content always gives the same sample.

    The rows are drawn from the first `size` rows by id. `size` is the number of rows rounded down to a power of
    2^(1/8), so an append changes the sample only if the catalog grows to the next power. A deleted row stays in the
    sample until compaction. If more than a tenth of all rows are deleted, only live rows are drawn, and each commit may
    change the sample.
    """

    snapshot: Snapshot

    @cached_property
    def key(self) -> Hashable:
        """A value that identifies the content of the rows: samples of equal keys are equal."""
        if self._only_live:
            return self.snapshot.generation
        names, rows = [], 0
        for segment in self.snapshot.filled:
            if rows >= self.size:
                break
            names.append(segment.folder.name)
            rows += segment.n
        return self.size, tuple(names)

    @cached_property
    def size(self) -> int:
        """The number of rows that the sample is drawn from."""
        snapshot = self.snapshot
        rows = snapshot.n if self._only_live else snapshot.n + snapshot.n_deleted
        return rounded_down(rows)

    def embeddings(self, count: int) -> NDArray[np.float32]:
        """Return the embeddings of up to `count` rows, (m, D) float32. Raises UsageError if there are none."""
        if not self.snapshot.has_embeddings:
            raise UsageError(f"embeddings: {self.snapshot.path} has none; ingest the embeddings or the images")
        return self.snapshot.embeddings_at(self.positions(count)).astype(np.float32)

    def codes(self, count: int) -> NDArray[np.uint8]:
        """Return the codes of up to `count` rows, (m, d) uint8."""
        return self.snapshot.codes_at(self.positions(count))

    def positions(self, count: int) -> NDArray[np.int64]:
        """Return the positions of the `count` rows whose ids have the smallest hashes, ascending by id, (m,) int64.

        m is `count`, or `size` if that is smaller.
        """
        chosen, left = np.zeros(0, np.int64), self.size
        for segment in self.snapshot.filled:
            ids = np.asarray(segment.ids)
            if self._only_live:
                ids = ids[self.snapshot.find_live(ids) >= 0]
            if len(ids) > left:
                ids = np.partition(ids, left)[:left]
            left -= len(ids)
            chosen = np.concatenate([chosen, ids])
            if len(chosen) > count:
                chosen = chosen[np.argpartition(splitmix64(chosen), count)[:count]]
            if not left:
                break
        return self.snapshot.find(np.sort(chosen))

    @cached_property
    def _only_live(self) -> bool:
        deleted = self.snapshot.n_deleted
        return deleted > MOST_DELETED * (self.snapshot.n + deleted)


def rounded_down(rows: int) -> int:
    """Return the largest power of 2^(1/`STEPS`), rounded down to an integer, that is at most `rows`; 0 for no rows."""
    if rows < 1:
        return 0
    power = (rows.bit_length() - 1) * STEPS
    while int(2 ** ((power + 1) / STEPS)) <= rows:
        power += 1
    return int(2 ** (power / STEPS))
