"""Find all: train a model on marks, apply it to the whole catalog, rank the candidates, and cut the list."""

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
from gpubranches.core.stages import begin
from gpubranches.errors import UsageError
from gpubranches.learning.branches import BranchEnsemble, DecisionBranches
from gpubranches.learning.branches_classic import ClassicBranches, ClassicEnsemble
from gpubranches.learning.trees import DecisionTree, RandomForest
from gpubranches.retrieval.breadth import Breadth, judge
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
"""Models that also learn from `pseudo_labels` if their votes alone decide, so that their boxes follow the catalog."""
_WIDE: dict[Model, dict[str, Any]] = {
    "ensemble": {"expansion": 100, "negatives_per_positive": 20},
    "branch": {"top_down": False},
}
"""Settings of models before a second stage: their boxes only have to contain what the second stage ranks."""

_MOST_VOTES = 200_000
"""The largest number of items ranked by embeddings for which votes are also counted."""

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Found:
    """The result of `find_all`. boxes: None for "linear"; breadth: None if it was not judged, as by votes alone."""

    boxes: Boxes | None
    ranking: Ranking
    breadth: Breadth | None


def has_second_stage(catalog: Catalog, model: Model, wanted: bool | None) -> bool:
    """Return whether a find all ranks by embeddings.

    wanted: the user's choice, None to use embeddings if the catalog has some. Raises UsageError if it is wanted and the
    catalog has none, and for "linear" without it.
    """
    if wanted and not catalog.has_embeddings:
        raise UsageError("second_stage: the catalog has no embeddings; use votes alone")
    second_stage = catalog.has_embeddings if wanted is None else wanted
    if model == "linear" and not second_stage:
        raise UsageError(
            "model: linear is a second stage over the whole catalog and needs embeddings; choose another model"
        )
    return second_stage


def find_all(
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
    """Train a model, rank its candidates, and cut the list by the model's own rule.

    second_stage: rank by embeddings, else by votes; "linear" needs it. If the broad model gives the answer
    (`breadth.judge`), the second stage ranks the whole catalog, and models that learn from pseudo-labels are trained on
    that ranking. Otherwise it ranks the items in the boxes. seed: of the learner. where: only its items are ranked,
    also of the marked ones; the model learns from all marks. lean: by votes alone, the list is long enough for this
    cut. Raises UsageError for a second stage over a catalog without embeddings.
    """
    timings: dict[str, float] = {}
    if second_stage or model == "linear":
        boxes, ranking, breadth, stages = _find_by_embeddings(backend, catalog, data, model, seed, where, timings)
    else:
        boxes, ranking = _find_by_votes(backend, catalog, data, model, seed, where, lean, timings)
        breadth, stages = None, "boxes"
    begin("cut")
    if where is not None:
        ranking = ranking.take(catalog.inside(ranking.ids, where))
    timings["total"] = sum(timings.values())
    return Found(boxes, replace(ranking, source=f"{backend.name}/{stages}", timings_ms=timings), breadth)


def _find_by_votes(
    backend: Backend,
    catalog: Catalog,
    data: TrainingData,
    model: Model,
    seed: int,
    where: Bitmap | None,
    lean: float,
    timings: dict[str, float],
) -> tuple[Boxes, Ranking]:
    """Train boxes that decide by their votes, and rank by votes."""
    with _timed(timings, "train"):
        if model in TAUGHT:
            right, wrong = _with_pseudo_labels(backend, catalog, data, seed)
        else:
            right, wrong = data.positives, data.wrong
        boxes = _train(catalog, right, wrong, model, seed, {})
    with _timed(timings, "boxes"):
        votes = votes_for(lean, boxes.n_estimators)
        return boxes, by_votes(backend, catalog, boxes, data.positives, data.negatives, where, votes)


def _find_by_embeddings(
    backend: Backend,
    catalog: Catalog,
    data: TrainingData,
    model: Model,
    seed: int,
    where: Bitmap | None,
    timings: dict[str, float],
) -> tuple[Boxes | None, Ranking, Breadth | None, str]:
    """Judge the breadth of the idea and rank by embeddings; return also the names of the stages."""
    breadth: Breadth | None = None
    with _timed(timings, "breadth"):
        view = EmbeddingView(backend, catalog, where)
        view.weigh_models(data.positives, data.negatives, data.unchecked, data.negative_weight)
        if len(data.negatives) + len(data.unchecked):
            breadth = judge(view, data)
    stages = catalog.embeddings_source
    if breadth is not None and breadth.answers:
        with _timed(timings, "rank"):
            ranking = _rank_broadly(view, data, breadth)
        with _timed(timings, "train"):
            boxes = None if model == "linear" else _train_around(ranking, catalog, data, model, seed)
            ranking = _with_votes(ranking, catalog, boxes)
        stages = stages if breadth.broad.scores.error == 0 else f"bits+{stages}"
    else:
        with _timed(timings, "train"):
            boxes = None if model == "linear" else _train_wide(backend, catalog, data, model, seed)
        with _timed(timings, "rank"):
            ranking = _rank_narrowly(view, data, boxes, breadth)
        stages = f"{'bits' if boxes is None else 'boxes'}+{stages}"
    if breadth is not None and breadth.broad.uses_words:
        stages += "+words"
    return boxes, ranking, breadth, stages


def _rank_broadly(view: EmbeddingView, data: TrainingData, breadth: Breadth) -> Ranking:
    """Rank the whole catalog by the broad model and cut where the expected F1 is largest."""
    broad = breadth.broad
    threshold = broad.boundary.cut(len(data.positives))
    ids, scores = view.listed(broad.weights, broad.intercept, broad.scores, threshold, data.marked)
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


def _train_around(ranking: Ranking, catalog: Catalog, data: TrainingData, model: Model, seed: int) -> Boxes:
    """Train boxes for the answer of a broad model; models that learn from pseudo-labels take them from its ranking."""
    right, wrong = data.positives, data.wrong
    if model in TAUGHT:
        more, near = labels_around(ranking.ids, ranking.matched, np.concatenate([right, data.negatives]), seed)
        right = np.concatenate([right, more])
        wrong = np.union1d(data.negatives, near)
    return _train(catalog, right, wrong, model, seed, {})


def _train_wide(backend: Backend, catalog: Catalog, data: TrainingData, model: Model, seed: int) -> Boxes:
    """Train wide boxes, which contain the candidates of a second stage."""
    if model == "branch":  # it has too few boxes to make them wide, so they are grown around pseudo-labels here, too
        right, wrong = _with_pseudo_labels(backend, catalog, data, seed)
    else:
        right, wrong = data.positives, data.wrong
    return _train(catalog, right, wrong, model, seed, _WIDE.get(model, {}))


def _with_pseudo_labels(backend: Backend, catalog: Catalog, data: TrainingData, seed: int) -> tuple[Ids, Ids]:
    """Return the right and the wrong items to learn from, with pseudo-labels."""
    more, near = pseudo_labels(backend, catalog, data, seed)
    right = np.concatenate([data.positives, more])
    return right, np.concatenate([data.negatives, np.setdiff1d(np.union1d(data.unchecked, near), more)])


def _train(catalog: Catalog, right: Ids, wrong: Ids, model: Model, seed: int, settings: dict[str, Any]) -> Boxes:
    codes = catalog.codes(np.concatenate([right, wrong]))
    learner = _LEARNERS[model](random_state=seed % 2**32, **settings)
    boxes: Boxes = learner.fit(codes, np.arange(len(codes)) < len(right)).boxes_
    return boxes


def _rank_narrowly(view: EmbeddingView, data: TrainingData, boxes: Boxes | None, breadth: Breadth | None) -> Ranking:
    catalog = view.catalog
    uses_words = breadth is not None and breadth.broad.uses_words
    rescorer = Rescorer(negative_weight=data.negative_weight).fit(
        catalog.embeddings(data.positives),
        catalog.embeddings(data.wrong),
        view.mean,
        view.whitening,
        view.local,
        n_checked=len(data.negatives),
        fair=data.fair,
        words=data.words if uses_words else None,
    )
    ranking = rescorer.rank(
        view.backend,
        boxes,
        positives=data.positives,
        negatives=data.negatives,
        where=view.where,
        embeddings=catalog.embeddings,
    )
    return _with_votes(ranking, catalog, boxes)


def _with_votes(ranking: Ranking, catalog: Catalog, boxes: Boxes | None) -> Ranking:
    """Return the ranking with the votes of its items, for information, unless there are too many items."""
    if boxes is None or len(ranking.ids) > _MOST_VOTES:
        return ranking
    return replace(ranking, votes=boxes.votes(catalog.codes(ranking.ids)))


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    begin(name)
    start = time.perf_counter()
    yield
    timings[name] = (time.perf_counter() - start) * 1000
