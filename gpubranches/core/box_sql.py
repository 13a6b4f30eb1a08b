"""Boxes as SQL, over a table of codes with the columns id, c0, c1, ...."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def box_condition(features: NDArray[np.int16], low: NDArray[np.uint8], high: NDArray[np.uint8]) -> str:
    """Return the SQL condition for a row to lie in a box, see `Box`."""
    terms = (f"c{f} BETWEEN {lo} AND {hi}" for f, lo, hi in zip(features, low, high, strict=True))
    return " AND ".join(terms) or "TRUE"


def votes_query(conditions: Sequence[str], estimator: NDArray[np.integer[Any]], table: str, min_votes: int) -> str:
    """Return a query for (id, votes) of the items with at least min_votes.

    conditions: by `box_condition`, one per box; estimator: (b,) the estimator of each box. A vote is an estimator with
    at least one box that holds the item.
    """
    terms = []
    for e in np.unique(estimator):
        own = (f"({conditions[i]})" for i in np.flatnonzero(estimator == e).tolist())
        terms.append(f"CAST({' OR '.join(own)} AS INT)")
    votes = "\n  + ".join(terms) or "0"
    # The text contains only numbers, and the table name of the caller.
    counted = f"(SELECT id, {votes} AS votes FROM {table}) AS counted"  # nosec B608
    return f"SELECT * FROM {counted}\nWHERE votes >= {min_votes}"  # nosec B608
