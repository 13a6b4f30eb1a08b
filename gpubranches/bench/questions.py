"""What is asked of every engine, from the same marks: queries, models of boxes, linear models.

The boxes are learnt where numba is. Where it is not, as on a machine with a card and little else, they are drawn around
the marks, in the measured shape of learnt ones: 45 to 75 boxes of 4.7 dims over 25 estimators.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpubranches.bench.synthetic import SyntheticCatalog, cluster_of
from gpubranches.boxes import Box, Boxes

USERS = 64
POSITIVES, NEGATIVES, RANDOM = 22, 20, 1000
ESTIMATORS = 25
LEARNT, DRAWN = "learnt", "drawn around the marks"


@dataclass(frozen=True)
class Marks:
    """Ids of one user's marks: rows of one cluster, and others."""

    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]


@dataclass(frozen=True)
class Questions:
    """The questions of one run.

    query: (1, d) uint8, a row of the catalog; direction: (D,) float32; weights: (d,) float32; branch: a single decision
    branch model; ensembles: one an user; marks: what they were trained on; models: LEARNT or DRAWN.
    """

    query: NDArray[np.uint8]
    direction: NDArray[np.float32]
    weights: NDArray[np.float32]
    branch: Boxes
    ensembles: list[Boxes]
    marks: list[Marks]
    models: str


def ask(catalog: SyntheticCatalog, *, seed: int = 0, users: int = USERS) -> Questions:
    """Make the questions: each user seeks one cluster, with 22 right and 20 wrong marks and 1,000 random negatives."""
    rng = np.random.default_rng(seed)
    marks = [_marks(catalog, rng) for _ in range(users)]
    learns = importlib.util.find_spec("numba") is not None
    branch, ensembles = (_learnt if learns else _drawn)(catalog, marks, seed)
    return Questions(
        query=catalog.take(marks[0].positives[:1]),
        direction=rng.standard_normal(catalog.D).astype(np.float32),
        weights=rng.standard_normal(catalog.d).astype(np.float32),
        branch=branch,
        ensembles=ensembles,
        marks=marks,
        models=LEARNT if learns else DRAWN,
    )


def _marks(catalog: SyntheticCatalog, rng: np.random.Generator) -> Marks:
    others = catalog.sample_ids(NEGATIVES, rng)
    if not catalog.clusters:
        return Marks(catalog.sample_ids(POSITIVES, rng), others)
    row = rng.integers(0, catalog.n, 1)
    cluster = int(cluster_of(row, catalog.clusters, catalog.period)[0])
    return Marks(catalog.items_of(cluster, POSITIVES, rng), others)


def _learnt(catalog: SyntheticCatalog, marks: list[Marks], seed: int) -> tuple[Boxes, list[Boxes]]:
    """Return a single branch model of the first user, and an ensemble for each."""
    from gpubranches.branches import BranchEnsemble, DecisionBranches

    ensembles = [BranchEnsemble(random_state=i).fit(*_training(catalog, own)).boxes_ for i, own in enumerate(marks)]
    return DecisionBranches(random_state=seed).fit(*_training(catalog, marks[0])).boxes_, ensembles


def _drawn(catalog: SyntheticCatalog, marks: list[Marks], seed: int) -> tuple[Boxes, list[Boxes]]:
    """Return the same, but for boxes that are drawn."""
    ensembles = [_around(catalog.take(own.positives), np.random.default_rng(i)) for i, own in enumerate(marks)]
    first = catalog.take(marks[0].positives)
    rng = np.random.default_rng(seed)
    return Boxes([_box(first[rng.integers(len(first))], rng) for _ in range(2)], n_estimators=1), ensembles


def _around(codes: NDArray[np.uint8], rng: np.random.Generator) -> Boxes:
    """Return an ensemble of boxes around rows of codes, (m, d) uint8."""
    count = int(rng.integers(45, 76))
    owners = np.sort(np.concatenate([np.arange(ESTIMATORS), rng.integers(0, ESTIMATORS, count - ESTIMATORS)]))
    return Boxes([_box(codes[rng.integers(len(codes))], rng) for _ in range(count)], owners.tolist(), ESTIMATORS)


def _box(code: NDArray[np.uint8], rng: np.random.Generator) -> Box:
    """Return a box around a code, (d,) uint8, of 3 to 6 dims or what there are, some 4.7 on average."""
    f = min(len(code), int(rng.choice([3, 4, 5, 6], p=[0.1, 0.3, 0.4, 0.2])))
    features = np.sort(rng.choice(len(code), f, replace=False)).astype(np.int16)
    reach = rng.integers(30, 61, (2, f))
    own = code[features].astype(np.int64)
    low, high = np.maximum(own - reach[0], 0), np.minimum(own + reach[1], 255)
    return Box(features, low.astype(np.uint8), high.astype(np.uint8))


def _training(catalog: SyntheticCatalog, marks: Marks) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    unchecked = catalog.sample_ids(RANDOM, np.random.default_rng(len(marks.positives)))
    codes = catalog.take(np.concatenate([marks.positives, marks.negatives, unchecked]))
    return codes, np.arange(len(codes)) < len(marks.positives)
