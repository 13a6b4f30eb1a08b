"""The simulated user: types a concept's name, sees the first 100, marks some right and some wrong, refines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpubranches.backends import Backend
from gpubranches.catalog import Catalog
from gpubranches.embed import Embedder
from gpubranches.errors import UsageError
from gpubranches.session import Session

FEWEST = 34
"""Items a concept has at least."""
FIRST = 100
"""Items the user sees."""
NEGATIVES = 20
"""Items the user marks wrong at most."""
UNCHECKED = 1000
"""Random items that serve as wrong without a look."""
_NOISE = 0.5

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Concept:
    """What a user may look for. name: of the class; text: whether a query can be made of the name; items: its ids."""

    name: str
    text: bool
    items: Ids


@dataclass(frozen=True)
class Draw:
    """What one user has seen and marked; the same for every model. Ids but for `order`.

    order: (n,) rows of the World, the text query's answer over the whole catalog, best first; right: (n,) bool, the
    truth; positives, negatives: marked; unchecked: random ones.
    """

    concept: Concept
    seed: int
    order: NDArray[np.intp]
    right: NDArray[np.bool_]
    positives: Ids
    negatives: Ids
    unchecked: Ids

    @property
    def query(self) -> str | None:
        """What the user typed, None where the query was a code."""
        return f'"{self.concept.name}"' if self.concept.text else None


@dataclass
class World:
    """A labelled catalog in memory.

    embedder: for the concepts that have a text; None where none has. ids: (n,) ascending; codes: (n, d) uint8;
    embeddings: (n, D) float32, centred; mean: (D,) float32, what was taken from them; lengths: (n,) float32, theirs.
    Raises UsageError for a catalog without embeddings.
    """

    catalog: Catalog
    backend: Backend
    embedder: Embedder | None = None
    ids: Ids = field(init=False)
    codes: NDArray[np.uint8] = field(init=False)
    embeddings: NDArray[np.float32] = field(init=False)
    mean: NDArray[np.float32] = field(init=False)
    lengths: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        signs = self.catalog.signs
        if signs is None or not self.catalog.has_embeddings:
            raise UsageError(
                "expected a catalog with embeddings to evaluate on, this one has codes only; ingest its embeddings"
            )
        everything = np.arange(self.catalog.next_id)
        self.ids = everything[self.catalog.alive(everything)]
        self.codes = self.catalog.take(self.ids)
        self.mean = signs.mean_
        self.embeddings = self.catalog.embeddings(self.ids) - self.mean
        self.lengths = np.maximum(np.linalg.norm(self.embeddings, axis=1), np.float32(1e-12))

    @property
    def n(self) -> int:
        """Items."""
        return len(self.ids)

    def rows(self, ids: Ids) -> NDArray[np.intp]:
        """Return the rows of ids."""
        found: NDArray[np.intp] = np.searchsorted(self.ids, ids)
        return found

    def flags(self, ids: Ids) -> NDArray[np.bool_]:
        """Return which rows are those of ids, (n,) bool."""
        marked = np.zeros(self.n, np.bool_)
        marked[self.rows(ids)] = True
        return marked

    def session(self, seed: int) -> Session:
        """Return a new session."""
        return Session(self.catalog, self.backend, embedder=self.embedder, seed=seed)

    def draw(self, concept: Concept, p: int, seed: int) -> Draw | None:
        """Play the user up to the marks; None if the first page holds fewer than 2 right items.

        A concept without a text asks with its mean code and noise of half its length on top.
        """
        rng = np.random.default_rng([seed, p, *concept.name.encode()])
        session = self.session(int(rng.integers(2**32)))
        if concept.text:
            found = session.searcher.text(concept.name, k=self.n)
        else:
            found = session.vector(self._noisy_mean(concept, rng), k=self.n)
        order = self.rows(found.ids[0])
        right = self.flags(concept.items)
        seen = order[:FIRST]
        good, bad = rng.permutation(seen[right[seen]])[:p], rng.permutation(seen[~right[seen]])[:NEGATIVES]
        if len(good) < 2:
            return None
        session.mark(self.ids[good], +1)
        session.mark(self.ids[bad], -1)
        return Draw(
            concept=concept,
            seed=session.seed,
            order=order,
            right=right,
            positives=self.ids[good],
            negatives=self.ids[bad],
            unchecked=session.random_negatives(UNCHECKED),
        )

    def draws(self, concepts: list[Concept], p: int, seeds: int) -> Iterator[tuple[int, int, Draw | None]]:
        """Yield (concept's place, seed, draw) of every concept and seed."""
        for at, concept in enumerate(concepts):
            for seed in range(seeds):
                yield at, seed, self.draw(concept, p, seed)

    def _noisy_mean(self, concept: Concept, rng: np.random.Generator) -> NDArray[np.uint8]:
        scalar = self.catalog.scalar
        if scalar is None:
            raise UsageError("the evaluation needs a catalog made from embeddings, this one has ready codes")
        vectors = scalar.decode(self.codes[self.rows(concept.items)])
        d = vectors.shape[1]
        mean = vectors.mean(axis=0)
        query = mean / np.linalg.norm(mean) + _NOISE * rng.standard_normal(d) / np.sqrt(d)
        code: NDArray[np.uint8] = scalar.encode((query / np.linalg.norm(query)).astype(np.float32)[None])[0]
        return code


def asks(embedder: Embedder | None) -> Callable[[str], bool]:
    """Return whether a name can be asked for as a text: a function that a vocabulary answers by its list.

    Another embedder is tried; without one nothing can be asked for.
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

    A class is what has the same value in all `columns` of the metadata (items with none in one of them belong to no
    class); its name is the value of the column `name`, "_" read as space; known: whether a name can be asked for.
    Raises UsageError for columns that the catalog does not have, and if no class is large enough.
    """
    missing = [column for column in (*columns, name) if column not in catalog.columns]
    if missing or not columns:
        known_columns, got = ", ".join(catalog.columns), ", ".join(missing) or "none"
        raise UsageError(
            f"classes: expected columns of the catalog ({known_columns}), got {got}; "
            "name those that tell the classes apart, and the one with their names"
        )
    everything = np.arange(catalog.next_id)
    ids = everything[catalog.alive(everything)]
    classes: dict[tuple[str, ...], list[int]] = {}
    names: dict[tuple[str, ...], str] = {}
    for row in catalog.items(ids):
        key = tuple("" if row.get(column) is None else str(row[column]) for column in columns)
        if all(key):
            classes.setdefault(key, []).append(row["id"])
            names[key] = str(row.get(name)).replace("_", " ")
    large = [key for key in sorted(classes) if len(classes[key]) >= fewest]
    if not large:
        largest = max(map(len, classes.values()), default=0)
        raise UsageError(
            f"classes: expected at least one of {fewest} items or more by {', '.join(columns)}, got {len(classes)} "
            f"classes, the largest of {largest}; lower the number, or evaluate on a larger catalog"
        )
    return [Concept(names[key], known(names[key]), np.array(sorted(classes[key]), np.int64)) for key in large]


def random_subset(concepts: list[Concept], count: int | None, *, seed: int = 0) -> list[Concept]:
    """Return `count` concepts drawn at random, in their order; all of them for None."""
    if count is None:
        return concepts
    chosen = np.random.default_rng(seed).permutation(len(concepts))[:count]
    return [concepts[i] for i in sorted(chosen)]
