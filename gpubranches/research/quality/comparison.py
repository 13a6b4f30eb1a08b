"""Run models over draws, and store their measures: means, standard errors over concepts, paired differences."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.errors import UsageError
from gpubranches.research.quality.answers import Answer, Model
from gpubranches.research.quality.concepts import Concept
from gpubranches.research.quality.labelled_catalog import Draw, LabelledCatalog
from gpubranches.research.quality.measures import (
    average_precision,
    best_f1,
    f1,
    mean_and_error,
    precision_at,
    precision_recall,
)
from gpubranches.research.quality.models import MODELS
from gpubranches.research.quality.users import DEFAULT_USER, User
from gpubranches.research.tables import json_number

MEASURES = ("f1", "unmarked", "precision", "recall", "average_precision", "oracle", "oracle_unmarked")
"""The measures of an answer; see `measured`."""
LEVELS = np.linspace(0, 1, 101)
"""Levels of recall at which precision is reported."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Comparison:
    """Measures of several models or policies on the same draws.

    places: the numbers of marked positives, or the rounds. values: for each model and measure, (places, concepts,
    seeds) float64, NaN for skipped draws, for measures that a model has none of, and for those over unmarked items
    where no right one is left; "seconds" is of training and answering. Means are over the concepts that have a value.
    curves: for each model with a ranking, (places, concepts, seeds, 101) float32, precision over unmarked
    items at recalls 0 .. 1.
    """

    places: tuple[int, ...]
    seeds: int
    concepts: tuple[str, ...]
    values: Mapping[str, Mapping[str, NDArray[np.float64]]]
    curves: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def has(self, model: str, measure: str) -> bool:
        """Return whether a model has a measure at any place."""
        return not np.isnan(self.values[model][measure]).all()

    def take(self, rows: Sequence[int]) -> Comparison:
        """Return the measures of some concepts, without curves; rows: their places in `concepts`."""
        values = {
            model: {measure: array[:, list(rows)] for measure, array in measures.items()}
            for model, measures in self.values.items()
        }
        return replace(self, concepts=tuple(self.concepts[row] for row in rows), values=values, curves={})

    def mean(self, model: str, measure: str, place: int) -> tuple[float, float]:
        """Return the mean over concepts, of the mean over seeds, and its standard error (NaN for one concept)."""
        values = self._by_concept(model, measure, place)
        return mean_and_error(values[~np.isnan(values)])

    def counted(self, model: str, measure: str, place: int) -> int:
        """Return how many concepts have a value, and so are in the mean."""
        return int(np.count_nonzero(~np.isnan(self._by_concept(model, measure, place))))

    def paired(self, model: str, other: str, measure: str, place: int) -> tuple[float, float, float]:
        """Return mean and standard error over concepts of model minus other, and the share of concepts it wins.

        Ties count as half a win.
        """
        difference = self._by_concept(model, measure, place) - self._by_concept(other, measure, place)
        difference = difference[~np.isnan(difference)]
        if not len(difference):
            return math.nan, math.nan, math.nan
        wins = float(np.mean((difference > 0) + 0.5 * (difference == 0)))
        return (*mean_and_error(difference), wins)

    def curve(self, model: str, place: int) -> NDArray[np.float64] | None:
        """Return the mean over concepts of precision at recalls 0 .. 1, (101,) float64; None without a ranking."""
        if model not in self.curves:
            return None
        values = self.curves[model][self.places.index(place)].astype(np.float64)
        told = ~np.isnan(values[..., 0]).all(axis=1)
        if not told.any():
            return None
        mean: NDArray[np.float64] = np.nanmean(values[told], axis=1).mean(axis=0)
        return mean

    def skipped(self, place: int) -> int:
        """Return how many draws were skipped, their first page holding fewer than 2 right items."""
        first = next(iter(self.values.values()))["seconds"]
        return int(np.isnan(first[self.places.index(place)]).sum())

    def milliseconds(self, model: str) -> float:
        """Return the median over draws of the time to train and answer."""
        return 1000 * float(np.nanmedian(self.values[model]["seconds"]))

    def summary(self) -> dict[str, Any]:
        """Return mean, standard error and count of concepts of every measure by model and place, JSON-able."""
        return {
            model: {
                str(place): {
                    measure: {
                        **dict(zip(("mean", "error"), map(json_number, self.mean(model, measure, place)), strict=True)),
                        "concepts": self.counted(model, measure, place),
                    }
                    for measure in MEASURES
                    if self.has(model, measure)
                }
                for place in self.places
            }
            for model in self.values
        }

    def differences(self, reference: str) -> list[dict[str, Any]]:
        """Return the paired differences of the reference from other models, by own cuts, else by the best cuts."""
        rows: list[dict[str, Any]] = []
        for other in self.values:
            own = self.has(reference, "f1") and self.has(other, "f1")
            measures = ("f1", "unmarked") if own else ("oracle", "oracle_unmarked")
            if other == reference or not all(self.has(one, measures[0]) for one in (reference, other)):
                continue
            for place in self.places:
                row: dict[str, Any] = {"other": other, "place": place, "cut": "own" if own else "oracle"}
                for name, measure in zip(("f1", "unmarked"), measures, strict=True):
                    mean, error, wins = self.paired(reference, other, measure, place)
                    row[name] = {"mean": json_number(mean), "error": json_number(error), "wins": json_number(wins)}
                rows.append(row)
        return rows

    def raw(self) -> dict[str, Any]:
        """Return the value of every draw as nested lists, (places, concepts, seeds), with None for NaN."""
        return {
            model: {measure: _nested(array) for measure, array in values.items()}
            for model, values in self.values.items()
        }

    def _by_concept(self, model: str, measure: str, place: int) -> NDArray[np.float64]:
        values = self.values[model][measure][self.places.index(place)]
        means = np.full(len(values), np.nan)
        told = ~np.isnan(values).all(axis=1)
        means[told] = np.nanmean(values[told], axis=1)
        return means


def evaluate(
    labelled: LabelledCatalog,
    concepts: Sequence[Concept],
    *,
    models: Mapping[str, Model] = MODELS,
    positives: tuple[int, ...] = (8, 22),
    seeds: int = 2,
    user: User = DEFAULT_USER,
    progress: Progress | None = None,
) -> Comparison:
    """Play the simulated user for every concept and seed, and give every model the same marks.

    progress: called with the draws done and their number. Raises UsageError if every draw had to be skipped.
    """
    shape = (len(positives), len(concepts), seeds)
    values = empty_values(models, shape)
    curves: dict[str, NDArray[np.float32]] = {}
    for row, p in enumerate(positives):
        for number, (at, seed, draw) in enumerate(labelled.draws(list(concepts), p, seeds, user)):
            if draw is not None:
                good, bad = labelled.flags(draw.positives), labelled.flags(draw.negatives)
                for name, model in models.items():
                    start = time.perf_counter()
                    answer = model.answer(labelled, draw)
                    values[name]["seconds"][row, at, seed] = time.perf_counter() - start
                    for measure, value in measured_within(draw, answer, good, bad).items():
                        values[name][measure][row, at, seed] = value
                    if answer.scores is not None:
                        if name not in curves:
                            curves[name] = np.full((*shape, len(LEVELS)), np.nan, np.float32)
                        open_ = ~good & ~bad & draw.inside
                        if draw.right[open_].any():
                            curves[name][row, at, seed] = precision_at(answer.scores[open_], draw.right[open_], LEVELS)
            if progress is not None:
                progress(row * len(concepts) * seeds + number + 1, math.prod(shape))
        require_draws(values, row)
    return Comparison(positives, seeds, tuple(concept.name for concept in concepts), values, curves)


def measured(
    answer: Answer, right: NDArray[np.bool_], good: NDArray[np.bool_], bad: NDArray[np.bool_]
) -> dict[str, float]:
    """Return the measures of an answer; right: the truth, good and bad: marked right and wrong, all (n,) bool.

    f1, precision and recall are of the returned set over all items; marked items count as marked; unmarked: F1 over
    unmarked items; oracle, oracle_unmarked: the best F1 of all cuts of the ranking, which only an oracle knows;
    average_precision: of the ranking, over unmarked items, those without a score last by id. Measures over unmarked
    items are left out if no unmarked item is right.
    """
    found: dict[str, float] = {}
    unmarked = ~good & ~bad
    left = bool((right & unmarked).any())
    if answer.matched is not None:
        matched = (answer.matched | good) & ~bad
        found["f1"] = f1(matched, right)
        if left:
            found["unmarked"] = f1(matched & unmarked, right & unmarked)
        found["precision"], found["recall"] = precision_recall(matched, right)
    if answer.scores is not None:
        scores = np.where(good, np.inf, np.where(bad, -np.inf, answer.scores))
        found["oracle"] = best_f1(scores, right)
        if left:
            found["oracle_unmarked"] = best_f1(scores[unmarked], right[unmarked])
            order = np.flatnonzero(unmarked)
            order = order[np.argsort(-scores[order], kind="stable")]
            found["average_precision"] = average_precision(order, right & unmarked)
    return found


def measured_within(draw: Draw, answer: Answer, good: NDArray[np.bool_], bad: NDArray[np.bool_]) -> dict[str, float]:
    """Return the measures of `measured` over the items that meet the concept's condition; good, bad: (n,) bool."""
    rows = draw.inside
    matched = None if answer.matched is None else answer.matched[rows]
    scores = None if answer.scores is None else answer.scores[rows]
    return measured(Answer(matched, scores), draw.right[rows], good[rows], bad[rows])


def empty_values(names: Iterable[str], shape: tuple[int, ...]) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return arrays of NaN for every name and measure."""
    return {name: {measure: np.full(shape, np.nan) for measure in (*MEASURES, "seconds")} for name in names}


def require_draws(values: Mapping[str, Mapping[str, NDArray[np.float64]]], place: int) -> None:
    """Raise UsageError if nothing was measured at a place."""
    if all(np.isnan(measures["seconds"][place]).all() for measures in values.values()):
        raise UsageError(
            "expected a concept whose first 100 hold 2 right items or more, got none; evaluate on more or larger "
            "classes, or on embeddings that tell them apart"
        )


def _nested(array: NDArray[np.float64]) -> list[Any]:
    rounded = np.round(array, 4).astype(object)
    rounded[np.isnan(array)] = None
    nested: list[Any] = rounded.tolist()
    return nested
