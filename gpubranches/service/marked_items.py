"""The marks of a session on the items that are in its catalog now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import among
from gpubranches.errors import LabelError
from gpubranches.retrieval.training_data import TrainingData
from gpubranches.service.labels import NOT_CHOSEN, Labels

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog
    from gpubranches.core.options import RefineOptions

RANDOM_SHARE = 10
"""Random negatives are at most one item in this many, because they wrongly exclude items that would match."""


@dataclass(frozen=True)
class MarkedItems:
    """The marks of a log on items of a catalog. Marks of deleted items are left out.

    seed: of the random negatives.
    """

    catalog: Catalog
    labels: Labels
    seed: int

    @property
    def positives(self) -> NDArray[np.int64]:
        """Ids marked right, ascending, (p,) int64."""
        return self._marked(+1)

    @property
    def negatives(self) -> NDArray[np.int64]:
        """Ids marked wrong, ascending, (m,) int64."""
        return self._marked(-1)

    def within(self, where: str | None, version: int | None = None) -> dict[int, int]:
        """Return the marks of the items that meet a condition, or all: item id -> +1 or -1.

        version: see `Labels.current`.
        """
        found: dict[int, int] = {}
        for label in (1, -1):
            ids = self._marked(label, version)
            inside = ids if where is None else ids[self.catalog.inside(ids, where)]
            found.update(dict.fromkeys(inside.tolist(), label))
        return found

    def random_negatives(self, count: int) -> NDArray[np.int64]:
        """Return ids of random unmarked items, which are used as wrong ones, (at most count,) int64."""
        count = min(count, self.catalog.n // RANDOM_SHARE)
        drawn = self.catalog.sample_ids(count, np.random.default_rng(self.seed))
        return drawn[~among(drawn, np.concatenate([self.positives, self.negatives]))]

    def training_data(self, options: RefineOptions) -> TrainingData:
        """Return the training data of a model, without a query. Raises LabelError if no item is marked right."""
        positives, negatives = self.positives, self.negatives
        if len(positives) == 0:
            message = "find all needs at least one item marked right, got none; mark one, then find all again"
            raise LabelError(message).because("none-right")
        return TrainingData(
            positives,
            negatives,
            self.random_negatives(options.random_negatives),
            fair=~self.labels.has_origin(positives, NOT_CHOSEN),
            chosen_negatives=~self.labels.has_origin(negatives, NOT_CHOSEN),
            near_cut=self.labels.has_origin(np.concatenate([positives, negatives]), ("suggestion",)),
            negative_weight=options.negative_weight,
        )

    def _marked(self, label: int, version: int | None = None) -> NDArray[np.int64]:
        ids = np.array(sorted(i for i, held in self.labels.current(version).items() if held == label), np.int64)
        return ids[self.catalog.alive(ids)]
