"""The concepts that a simulated user looks for: classes of a labelled catalog, and whether words can ask for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import Catalog
from gpubranches.encoders import Embedder
from gpubranches.errors import UsageError

FEWEST = 34
"""The least number of items of a concept."""

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Concept:
    """A concept that a user may look for.

    name: of the class or of the group; text: whether words can ask for it; items: its ids; words: the words of the
    query, None for the name; where: a condition that limits what the user sees and what counts, None for the whole
    catalog; by_embeddings: whether a query without words is a mean of embeddings, else it is a mean of codes. For users
    who mark a page in order it always is a mean of embeddings.
    """

    name: str
    text: bool
    items: Ids
    words: str | None = None
    where: str | None = None
    by_embeddings: bool = False

    @property
    def asked(self) -> str:
        """The words that ask for it."""
        return self.name if self.words is None else self.words


def askable_by(embedder: Embedder | None) -> Callable[[str], bool]:
    """Return a function that decides whether an embedder can embed a name as a query.

    A vocabulary knows its names; any other embedder is tried. Without an embedder the function returns False.
    """
    if embedder is None:
        return lambda name: False
    knows: Callable[[str], bool] | None = getattr(embedder, "knows", None)

    def accepts(name: str) -> bool:
        try:
            embedder.texts([name])
        except UsageError:
            return False
        return True

    return accepts if knows is None else knows


def find_concepts(
    catalog: Catalog,
    known: Callable[[str], bool],
    *,
    columns: tuple[str, ...] = ("dataset", "label"),
    name: str = "caption",
    fewest: int = FEWEST,
) -> list[Concept]:
    """Return the classes with at least `fewest` items, in the order of their columns.

    A class has the items with the same values in all `columns` of the metadata; items without a value in one of them
    have no class. Its name is the value of the column `name`, with "_" read as a space. known: whether a name can be a
    query. Raises UsageError for columns that the catalog does not have, and if no class is large enough.
    """
    classes = find_classes(catalog, columns, name)
    large = [found for found in classes if len(found.items) >= fewest]
    if not large:
        largest = max((len(found.items) for found in classes), default=0)
        raise UsageError(
            f"classes: expected at least one of {fewest} items or more by {', '.join(columns)}, got {len(classes)} "
            f"classes, the largest of {largest}; lower the number, or evaluate on a larger catalog"
        )
    return [Concept(found.name, known(found.name), found.items) for found in large]


@dataclass(frozen=True)
class Class:
    """Items with the same values. values: of the columns, unchanged; name: with "_" read as a space; items: ids."""

    values: tuple[Any, ...]
    name: str
    items: Ids


def find_classes(catalog: Catalog, columns: tuple[str, ...], name: str) -> list[Class]:
    """Return the classes by columns of the metadata, in the order of their values as texts.

    An item with no value, or an empty one, in one of the columns has no class. name: the column with the names. Raises
    UsageError for columns that the catalog does not have.
    """
    missing = [column for column in (*columns, name) if column not in catalog.columns]
    if missing or not columns:
        known_columns, got = ", ".join(catalog.columns), ", ".join(missing) or "none"
        raise UsageError(
            f"classes: expected columns of the catalog ({known_columns}), got {got}; "
            "name those that tell the classes apart, and the one with their names"
        )
    items: dict[tuple[str, ...], list[int]] = {}
    told: dict[tuple[str, ...], tuple[tuple[Any, ...], str]] = {}
    for row in catalog.items(catalog.ids):
        values = tuple(row.get(column) for column in columns)
        key = tuple("" if value is None else str(value) for value in values)
        if all(key):
            items.setdefault(key, []).append(row["id"])
            told[key] = (values, str(row.get(name)).replace("_", " "))
    return [Class(*told[key], np.array(sorted(items[key]), np.int64)) for key in sorted(items)]


def random_subset(concepts: list[Concept], count: int | None, *, seed: int = 0) -> list[Concept]:
    """Return `count` concepts drawn at random, in their order; all of them for None."""
    if count is None:
        return concepts
    chosen = np.random.default_rng(seed).permutation(len(concepts))[:count]
    return [concepts[i] for i in sorted(chosen)]
