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

GROWTH = 1.09
"""The growth of a catalog, as a factor, after which the sample changes."""
MOST_DELETED = 0.1
"""The largest share of deleted rows up to which deleted rows may be drawn."""


@dataclass(frozen=True, eq=False)
class SteadySample:
    """Rows of a snapshot, drawn by a hash of their ids. The same content always gives the same sample.

    The rows are drawn from the first segments only. The last of these is the last segment with which the catalog had
    grown by 9% since the previous such segment. So the sample is drawn from all rows of one ingest, and small appends
    change nothing until they add up to 9%. A deleted row stays in the sample until compaction. If more than a tenth of
    all rows are deleted, the sample is drawn from all live rows, and each commit may change it.
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
        if self._only_live:
            return self.snapshot.n
        rows = size = 0
        for segment in self.snapshot.filled:
            rows += segment.n
            if rows >= GROWTH * size:
                size = rows
        return size

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
