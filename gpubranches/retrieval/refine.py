"""From marks to a ranking: train a model, apply it to the whole catalog, rank what it finds and cut the list."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import among
from gpubranches.core.bitmaps import Bitmap
from gpubranches.core.options import Model
from gpubranches.core.results import Ranking
from gpubranches.errors import UsageError
from gpubranches.learning.branches import BranchEnsemble, DecisionBranches
from gpubranches.learning.branches_classic import ClassicBranches, ClassicEnsemble
from gpubranches.learning.trees import DecisionTree, RandomForest
from gpubranches.retrieval.breadth import Breadth, judge
from gpubranches.retrieval.catalog_statistics import embedding_statistics
from gpubranches.retrieval.pseudo_labels import labels_around, pseudo_labels
from gpubranches.retrieval.rescore import Rescorer
from gpubranches.retrieval.scoring import EmbeddingView
from gpubranches.retrieval.training_data import TrainingData
from gpubranches.retrieval.voting import by_votes, votes_for

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog
    from gpubranches.core.boxes import Boxes
    from gpubranches.engines import Backend

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

_MOST_VOTES = 200_000
"""Items ranked by embeddings up to which their votes are counted, too."""

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Found:
    """What a refine finds. boxes: None for "linear"; breadth: None where it was not judged, by votes alone."""

    boxes: Boxes | None
    ranking: Ranking
    breadth: Breadth | None


def has_second_stage(catalog: Catalog, model: Model, wanted: bool | None) -> bool:
    """Return whether a refine ranks by embeddings; wanted: None for wherever the catalog has some.

    Raises UsageError where it is wanted and there are none, and for "linear" without it.
    """
    if wanted and not catalog.has_embeddings:
        raise UsageError("second_stage: the catalog has no embeddings; refine without the second stage")
    second_stage = catalog.has_embeddings if wanted is None else wanted
    if model == "linear" and not second_stage:
        raise UsageError(
            "model: linear is a second stage over the whole catalog, which needs embeddings; choose another"
        )
    return second_stage


def refined(
    backend: Backend,
    catalog: Catalog,
    data: TrainingData,
    model: Model,
    *,
    second_stage: bool,
    seed: int,
    where: Bitmap | None = None,
    lean: float = 0.0,
) -> Found:
    """Train a model and rank what it finds, cut by its own rule.

    second_stage: rank by embeddings, else by votes; "linear" needs it. Where a broad model is to answer
    (`breadth.judge`) the second stage ranks the whole catalog, and the boxes of models that learn from pseudo-labels
    follow it; else it ranks what the boxes hold. seed: of the learner. where: only its items are ranked, marked ones as
    well; all marks are learned from. lean: by votes alone the list reaches down to what a cut there matches. Raises
    UsageError for a second stage over a catalog without embeddings.
    """
    timings: dict[str, float] = {}
    staged = second_stage or model == "linear"
    breadth: Breadth | None = None
    if staged and len(data.negatives) + len(data.unchecked):
        with _timed(timings, "breadth"):
            view = EmbeddingView(backend, catalog, where)
            breadth = judge(view, data)
    if breadth is not None and breadth.answers:
        with _timed(timings, "rank"):
            ranking = _broadly(view, data, breadth)
        with _timed(timings, "train"):
            boxes = None if model == "linear" else _trained_around(ranking, catalog, data, model, seed)
            ranking = _with_votes(ranking, catalog, boxes)
        stages = catalog.embeddings_source if breadth.broad.scores.error == 0 else f"bits+{catalog.embeddings_source}"
    else:
        with _timed(timings, "train"):
            boxes = None if model == "linear" else _trained(backend, catalog, data, model, not second_stage, seed)
        ranking = _narrowly(backend, catalog, data, boxes, where, staged, breadth, lean, timings)
        stages = "bits" if boxes is None else "boxes"
        if staged:
            stages += f"+{catalog.embeddings_source}"
    if where is not None:
        ranking = ranking.take(catalog.inside(ranking.ids, where))
    if breadth is not None and breadth.broad.uses_words:
        stages += "+words"
    timings["total"] = sum(timings.values())
    return Found(boxes, replace(ranking, source=f"{backend.name}/{stages}", timings_ms=timings), breadth)


def _narrowly(
    backend: Backend,
    catalog: Catalog,
    data: TrainingData,
    boxes: Boxes | None,
    where: Bitmap | None,
    staged: bool,
    breadth: Breadth | None,
    lean: float,
    timings: dict[str, float],
) -> Ranking:
    """Rank what the boxes hold, by embeddings or by votes."""
    if staged or boxes is None:
        with _timed(timings, "rank"):
            return _by_embeddings(backend, catalog, data, boxes, where, breadth)
    with _timed(timings, "boxes"):
        votes = votes_for(lean, boxes.n_estimators)
        return by_votes(backend, catalog, boxes, data.positives, data.negatives, where, votes)


def _broadly(view: EmbeddingView, data: TrainingData, breadth: Breadth) -> Ranking:
    """Rank the whole catalog by the broad model, cut where the expected F1 is largest."""
    broad = breadth.broad
    threshold = broad.boundary.cut(len(data.positives))
    marked = np.concatenate([data.positives, data.negatives])
    ids, scores = view.listed(broad.weights, broad.intercept, broad.scores, threshold, marked)
    matched = scores >= np.float32(threshold)
    matched[among(ids, data.positives)] = True
    matched[among(ids, data.negatives)] = False
    return Ranking(
        ids=ids,
        scores=scores,
        matched=matched,
        total=int(matched.sum()),
        candidates=view.n,
        threshold=float(np.float32(threshold)),
        score_std=broad.boundary.unit_,
    )


def _trained_around(ranking: Ranking, catalog: Catalog, data: TrainingData, model: Model, seed: int) -> Boxes:
    """Train the boxes of a broad idea: around pseudo-labels by its ranking, where the model learns from such labels."""
    right, wrong = data.positives, np.concatenate([data.negatives, data.unchecked])
    if model in TAUGHT:
        more, near = labels_around(ranking.ids, ranking.matched, np.concatenate([right, data.negatives]), seed)
        right = np.concatenate([right, more])
        wrong = np.union1d(data.negatives, near)
    return _boxes(catalog, right, wrong, model, seed, {})


def _trained(
    backend: Backend, catalog: Catalog, data: TrainingData, model: Model, votes_decide: bool, seed: int
) -> Boxes:
    right, wrong = data.positives, np.concatenate([data.negatives, data.unchecked])
    if model in TAUGHT and (votes_decide or model == "branch"):
        more, near = pseudo_labels(backend, catalog, data, seed)
        right = np.concatenate([right, more])
        wrong = np.concatenate([data.negatives, np.setdiff1d(np.union1d(data.unchecked, near), more)])
    return _boxes(catalog, right, wrong, model, seed, {} if votes_decide else _WIDE.get(model, {}))


def _boxes(catalog: Catalog, right: Ids, wrong: Ids, model: Model, seed: int, settings: dict[str, Any]) -> Boxes:
    codes = catalog.codes(np.concatenate([right, wrong]))
    learner = _LEARNERS[model](random_state=seed % 2**32, **settings)
    boxes: Boxes = learner.fit(codes, np.arange(len(codes)) < len(right)).boxes_
    return boxes


def _by_embeddings(
    backend: Backend,
    catalog: Catalog,
    data: TrainingData,
    boxes: Boxes | None,
    where: Bitmap | None,
    breadth: Breadth | None,
) -> Ranking:
    signs = catalog.signs
    if signs is None:
        raise UsageError("second_stage: the catalog has no mean of its embeddings; ingest it again")
    heard = breadth is not None and breadth.broad.uses_words
    rescorer = Rescorer(negative_weight=data.negative_weight).fit(
        catalog.embeddings(data.positives),
        catalog.embeddings(np.concatenate([data.negatives, data.unchecked])),
        signs.mean_,
        *embedding_statistics(catalog),
        n_checked=len(data.negatives),
        fair=data.fair,
        words=data.words if heard else None,
    )
    ranking = rescorer.rank(
        backend,
        boxes,
        positives=data.positives,
        negatives=data.negatives,
        where=where,
        embeddings=catalog.embeddings,
    )
    return _with_votes(ranking, catalog, boxes)


def _with_votes(ranking: Ranking, catalog: Catalog, boxes: Boxes | None) -> Ranking:
    """Return the ranking with the votes of its items, which did not rank them, unless they are too many to count."""
    if boxes is None or len(ranking.ids) > _MOST_VOTES:
        return ranking
    return replace(ranking, votes=boxes.votes(catalog.codes(ranking.ids)))


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[name] = (time.perf_counter() - start) * 1000
