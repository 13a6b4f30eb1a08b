"""A labelled catalog in memory, in which simulated users look for concepts and mark the items they see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import Catalog
from gpubranches.encoders import Embedder
from gpubranches.engines import Backend
from gpubranches.errors import UsageError
from gpubranches.research.quality.concepts import Concept, Ids
from gpubranches.research.quality.users import DEFAULT_USER, User
from gpubranches.retrieval.queries import Words
from gpubranches.service import Session

FIRST = 100
"""Items the user sees."""
UNCHECKED = 1000
"""Random items that are used as wrong items without a check."""
_NOISE = 0.5
_EMBEDDING_NOISE = 0.3


@dataclass(frozen=True)
class Draw:
    """What one user has seen and marked, the same for every model; all fields are ids except `order`.

    order: (m,) rows of the catalog that meet the concept's condition, in the order of the first query's answer, best
    first; inside: (n,) bool, which rows those are; right: (n,) bool, the truth; positives, negatives: marked;
    unchecked: random items that are used as wrong items; told: whether a refine gets the words of the query.
    """

    concept: Concept
    seed: int
    order: NDArray[np.intp]
    inside: NDArray[np.bool_]
    right: NDArray[np.bool_]
    positives: Ids
    negatives: Ids
    unchecked: Ids
    told: bool = True

    @property
    def query(self) -> str | None:
        """The words to pass to a refine; None if the user passes none, or if the query was not a text."""
        return f'"{self.concept.asked}"' if self.concept.text and self.told else None


@dataclass
class LabelledCatalog:
    """A labelled catalog in memory.

    embedder: for the concepts that have a text; None if none has one. ids: (n,) ascending; codes: (n, d) uint8;
    embeddings: (n, D) float32, minus their mean; mean: (D,) float32; lengths: (n,) float32, norms of the embeddings.
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
        self.ids = self.catalog.ids
        self.codes = self.catalog.codes(self.ids)
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
        """Return a flag per row, (n,) bool, true for the rows of ids."""
        marked = np.zeros(self.n, np.bool_)
        marked[self.rows(ids)] = True
        return marked

    def session(self, seed: int) -> Session:
        """Return a new session."""
        return Session(self.catalog, self.backend, embedder=self.embedder, seed=seed)

    def marked(self, draw: Draw) -> Session:
        """Return a new session with the marks of a draw."""
        session = self.session(draw.seed)
        session.mark(draw.positives, +1)
        session.mark(draw.negatives, -1)
        return session

    def mark_by_truth(self, session: Session, ids: Ids, right: NDArray[np.bool_], origin: str) -> None:
        """Mark ids in a session by the truth. right: (n,) bool, the truth; origin: as in `Session.mark`."""
        good = right[self.rows(ids)]
        for label, marked in ((+1, ids[good]), (-1, ids[~good])):
            if len(marked):
                session.mark(marked, label, origin=origin)

    def draw(self, concept: Concept, p: int, seed: int, user: User = DEFAULT_USER) -> Draw | None:
        """Simulate the user up to the marks; None if the first page contains fewer than 2 right items.

        The query of a concept without a text is its mean plus noise: of half its length for a mean of codes, of three
        tenths for a mean of embeddings.
        """
        rng = np.random.default_rng([seed, p, *concept.name.encode()])
        session = self.session(int(rng.integers(2**32)))
        order = self._asked(session, concept, user, rng)
        right = self.flags(concept.items)
        good, bad = user.marks(order[:FIRST], right, p, rng)
        if len(good) < 2:
            return None
        session.mark(self.ids[good], +1)
        session.mark(self.ids[bad], -1)
        return Draw(
            concept=concept,
            seed=session.seed,
            order=order,
            inside=self.flags(self.ids[order]),
            right=right,
            positives=self.ids[good],
            negatives=self.ids[bad],
            unchecked=session.random_negatives(UNCHECKED),
            told=user.told,
        )

    def draws(
        self, concepts: list[Concept], p: int, seeds: int, user: User = DEFAULT_USER
    ) -> Iterator[tuple[int, int, Draw | None]]:
        """Yield (concept's place, seed, draw) of every concept and seed."""
        for at, concept in enumerate(concepts):
            for seed in range(seeds):
                yield at, seed, self.draw(concept, p, seed, user)

    def _asked(self, session: Session, concept: Concept, user: User, rng: np.random.Generator) -> NDArray[np.intp]:
        """Return all rows that meet the concept's condition, (m,), in the order of the first query's answer."""
        if concept.text:
            found = session.search(Words(concept.asked), k=self.n, where=concept.where)
        elif concept.by_embeddings or user.in_order:
            found = session.search(self._noisy_embedding(concept, rng), k=self.n, where=concept.where)
        else:
            found = session.search(self._noisy_mean(concept, rng), k=self.n, where=concept.where)
        return self.rows(found.ids)

    def _noisy_embedding(self, concept: Concept, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return the unit embedding, (D,) float32, that lies from the mean of images in a concept's noisy direction.

        A search subtracts the mean from this embedding, so it compares by the direction itself.
        """
        direction = self.embeddings[self.rows(concept.items)].mean(axis=0, dtype=np.float64)
        D, length = len(direction), np.linalg.norm(direction)
        direction = direction / max(length, 1e-12) + _EMBEDDING_NOISE * rng.standard_normal(D) / np.sqrt(D)
        direction /= np.linalg.norm(direction)
        mean = self.mean.astype(np.float64)
        along = mean @ direction
        far = np.sqrt(max(0.0, along**2 + 1 - mean @ mean)) - along
        towards: NDArray[np.float32] = (mean + far * direction).astype(np.float32)
        return towards

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
