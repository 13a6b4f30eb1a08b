"""Axis-aligned boxes over uint8 codes: the model that is applied to the whole catalog.

`Boxes.votes` defines the answer; the scan of every backend returns the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from gpubranches.core import box_sql
from gpubranches.core.arrays import check_array
from gpubranches.errors import ArrayError, UsageError

MAX_ESTIMATORS = 65535
_ROWS_AT_ONCE = 16_384
"""Rows whose columns stay in the processor's cache while all boxes are tested."""


@dataclass(frozen=True, eq=False)
class Box:
    """One box: low[j] <= codes[:, features[j]] <= high[j] for all j, both ends inclusive.

    features: (f,) int16, distinct code dims; low, high: (f,) uint8. A box without features contains every item. Raises
    ArrayError for other dtypes or shapes, negative or repeated features, and low > high.
    """

    features: NDArray[np.int16]
    low: NDArray[np.uint8]
    high: NDArray[np.uint8]

    def __post_init__(self) -> None:
        check_array(self.features, "features", dtype=np.int16, shape=(None,))
        check_array(self.low, "low", dtype=np.uint8, shape=(len(self.features),))
        check_array(self.high, "high", dtype=np.uint8, shape=(len(self.features),))
        if (self.features < 0).any() or len(set(self.features.tolist())) != len(self.features):
            raise ArrayError(f"features: expected distinct code dims of 0 and more, got {self.features.tolist()}")
        if (self.low > self.high).any():
            raise ArrayError(f"expected low <= high in every dim, got {self.low.tolist()} and {self.high.tolist()}")

    def contains(self, codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return which rows of codes, (n, d) uint8, lie in the box: (n,) bool."""
        columns = codes[:, self.features]
        inside: NDArray[np.bool_] = np.all((columns >= self.low) & (columns <= self.high), axis=1)
        return inside


class Boxes(Sequence[Box]):
    """Boxes of one or more estimators in CSR form; immutable.

    offsets: (b + 1,) int32, box i owns entries offsets[i]:offsets[i + 1] of features (int16), low, high (uint8);
    estimator: (b,) int32 ascending, the estimator each box belongs to; n_estimators: e, counting those without a box.
    """

    def __init__(self, boxes: Iterable[Box], estimator: Iterable[int] | None = None, n_estimators: int | None = None):
        """Join boxes.

        Without `estimator` all boxes belong to one estimator. Boxes are sorted by estimator; boxes of the same
        estimator stay in their order.
        """
        members = list(boxes)
        owners = np.zeros(len(members), np.int32) if estimator is None else np.array(list(estimator), np.int32)
        if owners.shape != (len(members),):
            raise ArrayError(f"estimator: expected one number per box, {len(members)}, got {owners.size}")
        needed = int(owners.max()) + 1 if len(owners) else 1
        self.n_estimators = needed if n_estimators is None else n_estimators
        if (len(owners) and owners.min() < 0) or self.n_estimators < needed or self.n_estimators > MAX_ESTIMATORS:
            raise UsageError(
                f"expected estimators numbered 0..n_estimators-1, at most {MAX_ESTIMATORS} of them, "
                f"got numbers up to {needed - 1} and n_estimators={self.n_estimators}"
            )
        order = np.argsort(owners, kind="stable")
        members = [members[i] for i in order]
        self.estimator = owners[order]
        self.offsets = np.zeros(len(members) + 1, np.int32)
        self.offsets[1:] = np.cumsum([len(box.features) for box in members])
        self.features = _joined([box.features for box in members], np.int16)
        self.low = _joined([box.low for box in members], np.uint8)
        self.high = _joined([box.high for box in members], np.uint8)
        for array in (self.estimator, self.offsets, self.features, self.low, self.high):
            array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.estimator)

    @overload
    def __getitem__(self, index: int) -> Box: ...
    @overload
    def __getitem__(self, index: slice) -> list[Box]: ...
    def __getitem__(self, index: int | slice) -> Box | list[Box]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = range(len(self))[index]
        own = slice(self.offsets[i], self.offsets[i + 1])
        return Box(self.features[own], self.low[own], self.high[own])

    def __iter__(self) -> Iterator[Box]:
        return (self[i] for i in range(len(self)))

    def require_dims(self, d: int) -> None:
        """Raise ArrayError if a box tests a dim that codes of d dims do not have."""
        if len(self.features) and self.features.max() >= d:
            raise ArrayError(f"boxes test code dim {self.features.max()}, the codes have dims 0..{d - 1}")

    def votes(self, codes: NDArray[np.uint8]) -> NDArray[np.uint16]:
        """Count for each row the ESTIMATORS with at least one box around it: (n,) uint16. codes: (n, d) uint8."""
        check_array(codes, "codes", dtype=np.uint8, shape=(None, None))
        self.require_dims(codes.shape[1])
        votes = np.zeros(len(codes), np.uint16)
        for start in range(0, len(codes), _ROWS_AT_ONCE):
            own = slice(start, start + _ROWS_AT_ONCE)
            columns = np.ascontiguousarray(codes[own].T)
            for e in np.unique(self.estimator):
                hit = np.zeros(columns.shape[1], np.bool_)
                for i in np.flatnonzero(self.estimator == e):
                    hit |= self._held(int(i), columns)
                votes[own] += hit
        return votes

    def _held(self, i: int, columns: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return what `Box.contains` returns for box i; columns: (d, n) uint8, one dim after the other for speed."""
        inside = np.ones(columns.shape[1], np.bool_)
        for j in range(self.offsets[i], self.offsets[i + 1]):
            column = columns[self.features[j]]
            if self.low[j] > 0:
                inside &= column >= self.low[j]
            if self.high[j] < 255:
                inside &= column <= self.high[j]
        return inside

    def to_sql(self, table: str, *, min_votes: int = 1) -> str:
        """Return a query for (id, votes) of items with at least min_votes; `table` has columns id, c0, c1, ..."""
        conditions = [box_sql.box_condition(box.features, box.low, box.high) for box in self]
        return box_sql.votes_query(conditions, self.estimator, table, min_votes)

    def to_json(self) -> dict[str, Any]:
        """Return a dict of plain lists; `from_json` reads it back."""
        boxes = [
            {"estimator": int(e), "features": b.features.tolist(), "low": b.low.tolist(), "high": b.high.tolist()}
            for e, b in zip(self.estimator, self, strict=True)
        ]
        return {"n_estimators": self.n_estimators, "boxes": boxes}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Boxes:
        """Read boxes written by `to_json`; anything else raises UsageError."""
        try:
            entries = data["boxes"]
            boxes = [
                Box(np.array(b["features"], np.int16), np.array(b["low"], np.uint8), np.array(b["high"], np.uint8))
                for b in entries
            ]
            return cls(boxes, [int(b["estimator"]) for b in entries], int(data["n_estimators"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UsageError(
                f"boxes: expected {{n_estimators, boxes: [{{estimator, features, low, high}}]}}, got a problem: {error}"
            ) from error


def _joined(parts: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *parts])
