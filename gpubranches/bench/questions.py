"""What is asked of every engine, from the same marks: queries, models of boxes, linear models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpubranches.bench.synthetic import SyntheticCatalog, cluster_of
from gpubranches.boxes import Boxes
from gpubranches.branches import BranchEnsemble, DecisionBranches

USERS = 64
POSITIVES, NEGATIVES, RANDOM = 22, 20, 1000


@dataclass(frozen=True)
class Marks:
    """Ids of one user's marks: rows of one cluster, and others."""

    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]


@dataclass(frozen=True)
class Questions:
    """The questions of one run.

    query: (1, d) uint8, a row of the catalog; direction: (D,) float32; weights: (d,) float32; branch: a single decision
    branch model; ensembles: one an user; marks: what they were trained on.
    """

    query: NDArray[np.uint8]
    direction: NDArray[np.float32]
    weights: NDArray[np.float32]
    branch: Boxes
    ensembles: list[Boxes]
    marks: list[Marks]


def ask(catalog: SyntheticCatalog, *, seed: int = 0, users: int = USERS) -> Questions:
    """Make the questions: each user seeks one cluster, with 22 right and 20 wrong marks and 1,000 random negatives."""
    rng = np.random.default_rng(seed)
    marks = [_marks(catalog, rng) for _ in range(users)]
    learnt = [BranchEnsemble(random_state=i).fit(*_training(catalog, own)).boxes_ for i, own in enumerate(marks)]
    branch = DecisionBranches(random_state=seed).fit(*_training(catalog, marks[0])).boxes_
    return Questions(
        query=catalog.take(marks[0].positives[:1]),
        direction=rng.standard_normal(catalog.D).astype(np.float32),
        weights=rng.standard_normal(catalog.d).astype(np.float32),
        branch=branch,
        ensembles=learnt,
        marks=marks,
    )


def _marks(catalog: SyntheticCatalog, rng: np.random.Generator) -> Marks:
    others = catalog.sample_ids(NEGATIVES, rng)
    if not catalog.clusters:
        return Marks(catalog.sample_ids(POSITIVES, rng), others)
    row = rng.integers(0, catalog.n, 1)
    cluster = int(cluster_of(row, catalog.clusters, catalog.period)[0])
    return Marks(catalog.items_of(cluster, POSITIVES, rng), others)


def _training(catalog: SyntheticCatalog, marks: Marks) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    unchecked = catalog.sample_ids(RANDOM, np.random.default_rng(len(marks.positives)))
    codes = catalog.take(np.concatenate([marks.positives, marks.negatives, unchecked]))
    return codes, np.arange(len(codes)) < len(marks.positives)
