"""The protocol of all backends."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import Catalog
from gpubranches.core.bitmaps import Bitmap
from gpubranches.core.boxes import Boxes
from gpubranches.core.results import Candidates, Neighbors

Tier = Literal["codes", "bits", "embeddings"]


class Backend(Protocol):
    """Answers queries over the whole catalog. Deleted rows and rows outside `where` are never returned or counted.

    `where` is a bitmap over row positions, from `Catalog.where`. A tier that the catalog does not have raises
    UsageError. A call sees all earlier commits of the catalog object. A backend is a context manager and may be used by
    several threads.
    """

    @property
    def name(self) -> str:
        """The name by which it was opened."""
        ...

    @property
    def catalog(self) -> Catalog:
        """Its catalog."""
        ...

    @property
    def first_tier(self) -> Literal["bits", "embeddings"]:
        """The tier that searches by text or image use first."""
        ...

    def info(self) -> dict[str, Any]:
        """Return a description of the backend and its data, as JSON."""
        ...

    def close(self) -> None:
        """Release its resources."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def search(self, queries: NDArray[Any], k: int, *, tier: Tier, where: Bitmap | None = None) -> Neighbors:
        """Return the k nearest items of each query.

        tier "codes": queries (q, d) uint8; exact squared L2 over codes, ordered by the integer.
        tier "embeddings": queries (q, D) float32, directions centred like the items; the distance is
        1 - <x - mean, q> / (|x - mean| |q|) over all items. tier "bits": the same queries; the max(1000, 10 k)
        items best by the bits score, rescored by the embeddings; without embeddings the estimate 1 - score / |q|.
        """
        ...

    def apply(
        self, boxes: Boxes, *, min_votes: int = 1, limit: int | None = None, where: Bitmap | None = None
    ) -> Candidates:
        """Return the items with at least min_votes (>= 1), by votes (`Boxes.votes` is the definition)."""
        ...

    def apply_many(
        self, models: Sequence[Boxes], *, min_votes: int = 1, limit: int | None = None, where: Bitmap | None = None
    ) -> list[Candidates]:
        """Apply the models of several users."""
        ...

    def within(self, boxes: Boxes, *, where: Bitmap | None = None) -> Bitmap:
        """Return the positions of the items with a vote of this model, as a bitmap like `Catalog.where` does."""
        ...

    def score(
        self,
        weights: NDArray[np.float32],
        *,
        tier: Tier,
        ids: NDArray[np.int64] | None = None,
        boxes: Boxes | None = None,
        threshold: float | None = None,
        limit: int | None = None,
        where: Bitmap | None = None,
    ) -> Candidates:
        """Return items by a linear score.

        tier "bits": weights (D,) over (x - mean), quantised by `SignQuantizer.planes`; scores f32(dot) * f32(scale)
        in units of the step. tier "codes": weights (d,) quantised by `CodeWeights`; exact integer dots as float32.
        tier "embeddings": weights (D,); the dot with (x - mean) in float32. ids: only these items (deleted ones
        are dropped); boxes: only items with a vote of this model; threshold: only scores >= it, in the tier's unit;
        limit: the best.
        """
        ...
