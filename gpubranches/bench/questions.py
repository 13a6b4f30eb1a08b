"""What is asked of every engine, from the same marks: queries, models of boxes, linear models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpubranches.bench.synthetic import SyntheticCatalog, cluster_of
from gpubranches.boxes import Box, Boxes
from gpubranches.branches import BranchEnsemble, DecisionBranches

USERS = 64
NEAREST = 100
BEST = 10_000
SHARES = {"narrow": 0.0, "medium": 0.01, "wide": 0.1}
"""The share of the rows that boxes grown on subsets of the pool are widened to hold; 0: as they were grown."""
_SAMPLED = 20_000
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
    branch model; ensembles: one an user; marks: what they were trained on; pooled: models of the first user's marks by
    question, over subsets of the pool, which can be indexed.
    """

    query: NDArray[np.uint8]
    direction: NDArray[np.float32]
    weights: NDArray[np.float32]
    branch: Boxes
    ensembles: list[Boxes]
    marks: list[Marks]
    pooled: dict[str, Boxes]


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
        pooled=_pooled(catalog, marks[0], seed),
    )


def widened(boxes: Boxes, sample: NDArray[np.uint8], share: float, min_votes: int = 1) -> Boxes:
    """Return boxes with intervals wider by the fewest codes that let them hold a share of sample, (m, d) uint8."""
    least, most = 0, 255
    while least < most:
        margin = (least + most) // 2
        if (_wider(boxes, margin).votes(sample) >= min_votes).mean() >= share:
            most = margin
        else:
            least = margin + 1
    return _wider(boxes, least)


def _wider(boxes: Boxes, margin: int) -> Boxes:
    members = [
        Box(
            box.features,
            np.maximum(box.low, margin) - np.uint8(margin),
            np.minimum(box.high, 255 - margin) + np.uint8(margin),
        )
        for box in boxes
    ]
    return Boxes(members, boxes.estimator.tolist(), boxes.n_estimators)


def _pooled(catalog: SyntheticCatalog, marks: Marks, seed: int) -> dict[str, Boxes]:
    sample = catalog.take(catalog.sample_ids(_SAMPLED, np.random.default_rng(seed)))
    codes, y = _training(catalog, marks)
    branch = DecisionBranches(subsets="pool", random_state=seed).fit(codes, y).boxes_
    ensemble = BranchEnsemble(subsets="pool", random_state=seed).fit(codes, y).boxes_
    models = {"branch of the pool": branch, "ensemble of the pool": ensemble}
    return {
        f"{what}, {label}": widened(boxes, sample, share, boxes.n_estimators // 2 + 1)
        for what, boxes in models.items()
        for label, share in SHARES.items()
    }


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
