"""From marks to a ranking: train a model, apply it to the whole catalog, rank what it finds and cut the list."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.arrays import Bitmap
from gpubranches.errors import UsageError
from gpubranches.learners.branches import BranchEnsemble, DecisionBranches
from gpubranches.learners.branches_classic import ClassicBranches, ClassicEnsemble
from gpubranches.learners.trees import DecisionTree, RandomForest
from gpubranches.models import NEGATIVE_WEIGHT, Model
from gpubranches.refine.pseudo_labels import pseudo_labels
from gpubranches.refine.rescore import Rescorer
from gpubranches.refine.spread import spread_of
from gpubranches.results import Candidates, Ranking

if TYPE_CHECKING:
    from gpubranches.backends import Backend
    from gpubranches.boxes import Boxes
    from gpubranches.catalog import Catalog

_LEARNERS = {
    "ensemble": BranchEnsemble,
    "branch": DecisionBranches,
    "ensemble-classic": ClassicEnsemble,
    "branch-classic": ClassicBranches,
    "forest": RandomForest,
    "tree": DecisionTree,
}
TAUGHT: tuple[Model, ...] = ("ensemble", "branch")
"""Models that learn from `pseudo_labels`, too, where their votes alone decide: their boxes then follow the catalog."""
_WIDE: dict[Model, dict[str, Any]] = {
    "ensemble": {"expansion": 100, "negatives_per_positive": 20},
    "branch": {"top_down": False},
}
"""Settings where votes do not decide: boxes then only have to hold what the second stage is to rank."""

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Marks:
    """What a model learns from, ids of items in the catalog.

    positives: (p,) marked right, at least one; negatives: (m,) marked wrong; unchecked: random ones that serve as
    wrong; fair: (p,) bool, which positives are a fair sample of what is wanted; negative_weight: how much a negative
    counts against an unchecked one, for the linear models: boxes shut out every one of them. asked: (D,) float32, the
    direction of what was asked for in words, for a second stage with few marks; None without words.
    """

    positives: Ids
    negatives: Ids
    unchecked: Ids
    fair: NDArray[np.bool_]
    negative_weight: float = NEGATIVE_WEIGHT
    asked: NDArray[np.float32] | None = None


def refined(
    backend: Backend,
    catalog: Catalog,
    marks: Marks,
    model: Model,
    *,
    second_stage: bool,
    seed: int,
    where: Bitmap | None = None,
) -> tuple[Boxes | None, Ranking]:
    """Return the boxes of a model, None for "linear", and the ranking they give, cut by its own rule.

    second_stage: rank by embeddings, else by votes; "linear" needs it. seed: of the learner. where: only its items are
    ranked, marked ones as well; all marks are learned from. Raises UsageError for a second stage over a catalog without
    embeddings.
    """
    timings: dict[str, float] = {}
    with _timed(timings, "train"):
        boxes = None if model == "linear" else _trained(backend, catalog, marks, model, not second_stage, seed)
    if second_stage or boxes is None:
        with _timed(timings, "rank"):
            ranking = _by_embeddings(backend, catalog, marks, boxes, where)
    else:
        with _timed(timings, "boxes"):
            found = backend.evaluate(boxes, min_votes=1, where=where)
        with _timed(timings, "rank"):
            ranking = _by_votes(found, marks, boxes.n_estimators // 2 + 1)
    if where is not None:
        ranking = ranking.take(catalog.inside(ranking.ids, where))
    stages = "bits" if boxes is None else "boxes"
    if second_stage or boxes is None:
        stages += f"+{catalog.embeddings_source}"
    if second_stage and marks.asked is not None:
        stages += "+words"
    timings["total"] = sum(timings.values())
    return boxes, replace(ranking, source=f"{backend.name}/{stages}", timings_ms=timings)


def _trained(backend: Backend, catalog: Catalog, marks: Marks, model: Model, votes_decide: bool, seed: int) -> Boxes:
    right, wrong = marks.positives, np.concatenate([marks.negatives, marks.unchecked])
    if model in TAUGHT and (votes_decide or model == "branch"):
        more, near = pseudo_labels(
            backend, catalog, marks.positives, marks.negatives, marks.unchecked, marks.negative_weight
        )
        right = np.concatenate([right, more])
        wrong = np.concatenate([marks.negatives, np.setdiff1d(np.union1d(marks.unchecked, near), more)])
    codes = catalog.take(np.concatenate([right, wrong]))
    learner = _LEARNERS[model](random_state=seed % 2**32, **({} if votes_decide else _WIDE.get(model, {})))
    boxes: Boxes = learner.fit(codes, np.arange(len(codes)) < len(right)).boxes_
    return boxes


def _by_embeddings(
    backend: Backend, catalog: Catalog, marks: Marks, boxes: Boxes | None, where: Bitmap | None
) -> Ranking:
    signs = catalog.signs
    if signs is None:
        raise UsageError("second_stage: the catalog has no mean of its embeddings; ingest it again")
    rescorer = Rescorer(negative_weight=marks.negative_weight).fit(
        catalog.embeddings(marks.positives),
        catalog.embeddings(np.concatenate([marks.negatives, marks.unchecked])),
        signs.mean_,
        *spread_of(catalog),
        n_checked=len(marks.negatives),
        fair=marks.fair,
        asked=marks.asked,
    )
    ranking = rescorer.rank(
        backend,
        boxes,
        positives=marks.positives,
        negatives=marks.negatives,
        where=where,
        embeddings=catalog.embeddings,
    )
    return replace(ranking, votes=None if boxes is None else boxes.votes(catalog.take(ranking.ids)))


def _by_votes(found: Candidates, marks: Marks, threshold: int) -> Ranking:
    """Rank by votes; matched from `threshold` votes on, marked items by their mark."""
    votes = np.zeros(0, np.uint16) if found.votes is None else found.votes
    missing = marks.positives[~np.isin(marks.positives, found.ids)]
    ids = np.concatenate([found.ids, missing])
    votes = np.concatenate([votes, np.zeros(len(missing), np.uint16)])
    matched = ((votes >= threshold) | np.isin(ids, marks.positives)) & ~np.isin(ids, marks.negatives)
    return Ranking(
        ids=ids,
        scores=votes.astype(np.float32),
        votes=votes,
        matched=matched,
        total=int(matched.sum()),
        candidates=found.total,
        threshold=float(threshold),
    )


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[name] = (time.perf_counter() - start) * 1000
