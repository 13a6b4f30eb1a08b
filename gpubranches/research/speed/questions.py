"""The questions to every engine, from the same marks: queries, models of boxes, linear models.

The boxes are learnt if numba is installed. If it is not, as on a machine with a card and few packages, they are drawn
at random around the marks, with the measured numbers of learnt ones: 45 to 75 boxes of 4.7 dims over 25 estimators;
those of the pool on its subsets of dims, the larger ones more often.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.boxes import Box, Boxes
from gpubranches.learning.branches import BranchEnsemble, DecisionBranches, feature_subsets
from gpubranches.research.speed.synthetic import SyntheticCatalog, cluster_of

USERS = 64
NEAREST = 100
BEST = 10_000
SHARES = {"narrow": 0.0, "medium": 0.01, "wide": 0.1}
"""The shares of the rows to which boxes over subsets of the pool are widened; 0: the boxes as they were grown."""
_SAMPLED = 20_000
POSITIVES, NEGATIVES, RANDOM = 22, 20, 1000
ESTIMATORS = 25
LEARNT, DRAWN = "learnt", "drawn around the marks"

_Dims = Callable[[int, np.random.Generator], NDArray[np.int16]]
"""A function that draws the dims of a box, ascending, from a number of dims."""


@dataclass(frozen=True)
class Marks:
    """Ids of one user's marks: rows of one cluster, and others."""

    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]


@dataclass(frozen=True)
class Questions:
    """The questions of one run.

    query: (1, d) uint8, a row of the catalog; direction: (D,) float32; weights: (d,) float32; branch: a single decision
    branch model; ensembles: one per user; marks: the marks that these were trained on; pooled: models of the first
    user's marks by question, over subsets of the pool, which can be indexed; models: LEARNT or DRAWN.
    """

    query: NDArray[np.uint8]
    direction: NDArray[np.float32]
    weights: NDArray[np.float32]
    branch: Boxes
    ensembles: list[Boxes]
    marks: list[Marks]
    pooled: dict[str, Boxes]
    models: str


def ask(catalog: SyntheticCatalog, *, seed: int = 0, users: int = USERS, drawn: bool = False) -> Questions:
    """Return the queries: each user seeks one cluster, with 22 right and 20 wrong marks and 1,000 random negatives.

    drawn: draw the boxes at random even if they could be learnt.
    """
    rng = np.random.default_rng(seed)
    marks = [_marks(catalog, rng) for _ in range(users)]
    learns = not drawn and importlib.util.find_spec("numba") is not None
    branch, ensembles = (_learnt if learns else _drawn)(catalog, marks, seed)
    return Questions(
        query=catalog.codes(marks[0].positives[:1]),
        direction=rng.standard_normal(catalog.D).astype(np.float32),
        weights=rng.standard_normal(catalog.d).astype(np.float32),
        branch=branch,
        ensembles=ensembles,
        marks=marks,
        pooled=_pooled(catalog, marks[0], seed, learns),
        models=LEARNT if learns else DRAWN,
    )


def widened(boxes: Boxes, sample: NDArray[np.uint8], share: float, min_votes: int = 1) -> Boxes:
    """Return boxes widened by the fewest codes so that they contain a share of sample, (m, d) uint8."""
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


def pool_models(
    codes: NDArray[np.uint8], y: NDArray[np.bool_], sample: NDArray[np.uint8], seed: int = 0
) -> dict[str, Boxes]:
    """Return a branch and an ensemble over subsets of the pool, each as grown and widened to the shares of SHARES.

    codes, y: (m, d) and (m,), marked and random rows and whether each is right; sample: (s, d), rows whose shares are
    counted. The keys are such as "branch, narrow".
    """
    branch = DecisionBranches(subsets="pool", random_state=seed).fit(codes, y).boxes_
    ensemble = BranchEnsemble(subsets="pool", random_state=seed).fit(codes, y).boxes_
    return _by_share({"branch": branch, "ensemble": ensemble}, sample)


def _by_share(models: dict[str, Boxes], sample: NDArray[np.uint8]) -> dict[str, Boxes]:
    return {
        f"{what}, {label}": widened(boxes, sample, share, boxes.n_estimators // 2 + 1)
        for what, boxes in models.items()
        for label, share in SHARES.items()
    }


def _pooled(catalog: SyntheticCatalog, marks: Marks, seed: int, learns: bool) -> dict[str, Boxes]:
    sample = catalog.codes(catalog.sample_ids(_SAMPLED, np.random.default_rng(seed)))
    if learns:
        models = pool_models(*_training(catalog, marks), sample, seed)
    else:
        codes, rng = catalog.codes(marks.positives), np.random.default_rng(seed)
        branch, ensemble = _branch_around(codes, rng, _of_the_pool), _ensemble_around(codes, rng, _of_the_pool)
        models = _by_share({"branch": branch, "ensemble": ensemble}, sample)
    return {name.replace(",", " of the pool,"): boxes for name, boxes in models.items()}


def _marks(catalog: SyntheticCatalog, rng: np.random.Generator) -> Marks:
    others = catalog.sample_ids(NEGATIVES, rng)
    if not catalog.clusters:
        return Marks(catalog.sample_ids(POSITIVES, rng), others)
    row = rng.integers(0, catalog.n, 1)
    cluster = int(cluster_of(row, catalog.clusters, catalog.period)[0])
    return Marks(catalog.items_of(cluster, POSITIVES, rng), others)


def _learnt(catalog: SyntheticCatalog, marks: list[Marks], seed: int) -> tuple[Boxes, list[Boxes]]:
    """Return a single branch model of the first user, and an ensemble for each."""
    ensembles = [BranchEnsemble(random_state=i).fit(*_training(catalog, own)).boxes_ for i, own in enumerate(marks)]
    return DecisionBranches(random_state=seed).fit(*_training(catalog, marks[0])).boxes_, ensembles


def _drawn(catalog: SyntheticCatalog, marks: list[Marks], seed: int) -> tuple[Boxes, list[Boxes]]:
    """Return the same with boxes that are drawn at random."""
    rngs = [np.random.default_rng(i) for i in range(len(marks))]
    ensembles = [
        _ensemble_around(catalog.codes(own.positives), rng, _any) for own, rng in zip(marks, rngs, strict=True)
    ]
    return _branch_around(catalog.codes(marks[0].positives), np.random.default_rng(seed), _any), ensembles


def _branch_around(codes: NDArray[np.uint8], rng: np.random.Generator, dims: _Dims) -> Boxes:
    """Return two boxes around rows of codes, (m, d) uint8."""
    return Boxes([_box(codes[rng.integers(len(codes))], rng, dims) for _ in range(2)], n_estimators=1)


def _ensemble_around(codes: NDArray[np.uint8], rng: np.random.Generator, dims: _Dims) -> Boxes:
    """Return an ensemble of boxes around rows of codes, (m, d) uint8."""
    count = int(rng.integers(45, 76))
    owners = np.sort(np.concatenate([np.arange(ESTIMATORS), rng.integers(0, ESTIMATORS, count - ESTIMATORS)]))
    members = [_box(codes[rng.integers(len(codes))], rng, dims) for _ in range(count)]
    return Boxes(members, owners.tolist(), ESTIMATORS)


def _box(code: NDArray[np.uint8], rng: np.random.Generator, dims: _Dims) -> Box:
    """Return a box around a code, (d,) uint8."""
    features = dims(len(code), rng)
    reach = rng.integers(30, 61, (2, len(features)))
    own = code[features].astype(np.int64)
    low, high = np.maximum(own - reach[0], 0), np.minimum(own + reach[1], 255)
    return Box(features, low.astype(np.uint8), high.astype(np.uint8))


def _any(d: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """Draw 3 to 6 dims, or as many as there are; about 4.7 on average."""
    f = min(d, int(rng.choice([3, 4, 5, 6], p=[0.1, 0.3, 0.4, 0.2])))
    return np.sort(rng.choice(d, f, replace=False)).astype(np.int16)


def _of_the_pool(d: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """Draw a subset of the pool, with a probability proportional to its size."""
    pool = feature_subsets(d)
    sizes = np.array([len(subset) for subset in pool])
    return np.array(pool[rng.choice(len(pool), p=sizes / sizes.sum())], np.int16)


def _training(catalog: SyntheticCatalog, marks: Marks) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    unchecked = catalog.sample_ids(RANDOM, np.random.default_rng(len(marks.positives)))
    codes = catalog.codes(np.concatenate([marks.positives, marks.negatives, unchecked]))
    return codes, np.arange(len(codes)) < len(marks.positives)
