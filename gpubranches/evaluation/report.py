"""Run models over draws, and say how they compare: means, standard errors over concepts, paired differences."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.evaluation.measures import average_precision, best_f1, f1, precision_recall
from gpubranches.evaluation.models import MODELS, Answer, Model
from gpubranches.evaluation.protocol import Concept, Draw, World

_MEASURES = ("f1", "unmarked", "precision", "recall", "oracle", "oracle_unmarked", "average_precision")


@dataclass(frozen=True)
class Evaluation:
    """What came of an evaluation.

    values: for each model and measure, (len(positives), concepts, seeds) float64, NaN for skipped draws and for
    measures a model has none of. f1, precision and recall are of the returned set over all items, with the marks
    counted as what they are; unmarked: F1 over unmarked items; oracle: the best F1 of all cuts of the ranking, known
    to an oracle only; average_precision: of the ranking, over unmarked items, those without a score last by id;
    seconds: of training and answering.
    """

    positives: tuple[int, ...]
    seeds: int
    concepts: tuple[str, ...]
    values: Mapping[str, Mapping[str, NDArray[np.float64]]]

    def mean(self, model: str, measure: str, p: int) -> tuple[float, float]:
        """Return the mean over concepts, of the mean over seeds, and its standard error."""
        return _mean_and_error(self._by_concept(model, measure, p))

    def paired(self, model: str, other: str, measure: str, p: int) -> tuple[float, float, float]:
        """Return mean and standard error over concepts of model minus other, and the share of concepts it wins.

        Ties count as half a win.
        """
        difference = self._by_concept(model, measure, p) - self._by_concept(other, measure, p)
        wins = float(np.mean((difference > 0) + 0.5 * (difference == 0)))
        return (*_mean_and_error(difference), wins)

    def skipped(self, p: int) -> int:
        """Return how many draws were skipped, their first page holding fewer than 2 right items."""
        first = next(iter(self.values.values()))["seconds"]
        return int(np.isnan(first[self.positives.index(p)]).sum())

    def table(self) -> str:
        """Return a Markdown table: a line a model and cut."""
        tops = " | ".join(f"p = {p}: F1 | unmarked | precision | recall | AP" for p in self.positives)
        rule = "|---|---|" + "---|" * (5 * len(self.positives) + 1)
        lines = [f"| model | cut | {tops} | ms |", rule]
        for model, values in self.values.items():
            for cut, measures in (
                ("own", ("f1", "unmarked", "precision", "recall", "average_precision")),
                ("oracle", ("oracle", "oracle_unmarked", "", "", "average_precision")),
            ):
                if np.isnan(values[measures[0]]).all():
                    continue
                cells = [self._cell(model, measure, p) for p in self.positives for measure in measures]
                milliseconds = 1000 * float(np.nanmedian(values["seconds"]))
                lines.append(f"| {model} | {cut} | {' | '.join(cells)} | {milliseconds:.0f} |")
        return "\n".join(lines)

    def paired_table(self, model: str) -> str:
        """Return a Markdown table of one model's F1 by its own cut minus that of every other model."""
        tops = " | ".join(f"p = {p}: F1 difference | concepts won | unmarked" for p in self.positives)
        lines = [f"| {model} minus | {tops} |", "|---|" + "---|" * (3 * len(self.positives))]
        for other, values in self.values.items():
            if other == model or np.isnan(values["f1"]).all():
                continue
            cells = []
            for p in self.positives:
                mean, error, wins = self.paired(model, other, "f1", p)
                unmarked, unmarked_error, _ = self.paired(model, other, "unmarked", p)
                cells += [f"{mean:+.3f} ± {error:.3f}", f"{wins:.0%}", f"{unmarked:+.3f} ± {unmarked_error:.3f}"]
            lines.append(f"| {other} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return all values as a JSON-able dict; NaN becomes None."""
        return {
            "positives": self.positives,
            "seeds": self.seeds,
            "concepts": self.concepts,
            "skipped": {str(p): self.skipped(p) for p in self.positives},
            "values": {
                model: {measure: _plain(array) for measure, array in values.items()}
                for model, values in self.values.items()
            },
        }

    def _by_concept(self, model: str, measure: str, p: int) -> NDArray[np.float64]:
        values = self.values[model][measure][self.positives.index(p)]
        means: NDArray[np.float64] = np.nanmean(values[~np.isnan(values).all(axis=1)], axis=1)
        return means

    def _cell(self, model: str, measure: str, p: int) -> str:
        if not measure or np.isnan(self.values[model][measure]).all():
            return ""
        mean, error = self.mean(model, measure, p)
        return f"{mean:.3f} ± {error:.3f}" if measure in ("f1", "oracle") else f"{mean:.3f}"


def evaluate(
    world: World,
    concepts: Sequence[Concept],
    *,
    models: Mapping[str, Model] = MODELS,
    positives: tuple[int, ...] = (8, 22),
    seeds: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Play the simulated user for every concept and seed, and give every model the same marks.

    progress: called with the draws done and their number. See Evaluation for what is measured.
    """
    shape = (len(positives), len(concepts), seeds)
    values = {model: {name: np.full(shape, np.nan) for name in (*_MEASURES, "seconds")} for model in models}
    total = len(positives) * len(concepts) * seeds
    for row, p in enumerate(positives):
        for number, (at, seed, draw) in enumerate(world.draws(list(concepts), p, seeds)):
            if draw is not None:
                for name, model in models.items():
                    for measure, value in _measured(world, draw, model).items():
                        values[name][measure][row, at, seed] = value
            if progress is not None:
                progress(row * len(concepts) * seeds + number + 1, total)
    return Evaluation(positives, seeds, tuple(concept.name for concept in concepts), values)


def first_pages(world: World, concepts: Sequence[Concept], ks: Sequence[int]) -> list[dict[str, float]]:
    """Compare what a text query answers with the cosine on the full embeddings, each side centred on its mean.

    For each k: mean average precision of the first k over the concepts that have a text, of the product ("found") and
    of the cosine over all items ("exact"); the largest loss of a concept; median milliseconds of both.
    """
    session = world.session(0)
    lengths = np.linalg.norm(world.embeddings, axis=1)
    asked = [concept for concept in concepts if concept.text]
    report = []
    for k in ks:
        rows: list[tuple[float, float, float, float]] = []
        for concept in asked:
            right = world.flags(concept.items)
            begin = time.perf_counter()
            found = session.ask(concept.name, k=k).ids[0]
            middle = time.perf_counter()
            exact = _nearest(world, world.embedder.texts([concept.name])[0], lengths, k)
            end = time.perf_counter()
            found_ap = average_precision(world.rows(found[found >= 0]), right)
            rows.append((found_ap, average_precision(exact, right), 1e3 * (middle - begin), 1e3 * (end - middle)))
        values = np.array(rows)
        report.append(
            {
                "k": k,
                "concepts": len(rows),
                "found": float(values[:, 0].mean()),
                "exact": float(values[:, 1].mean()),
                "largest_loss": float((values[:, 1] - values[:, 0]).max()),
                "found_ms": float(np.median(values[:, 2])),
                "exact_ms": float(np.median(values[:, 3])),
            }
        )
    return report


def _nearest(world: World, text: NDArray[np.float32], lengths: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    mean = world.embedder.text_mean if world.catalog.text_mean is None else world.catalog.text_mean
    scores = world.embeddings @ (text - mean) / lengths
    best = np.argpartition(-scores, k - 1)[:k] if k < world.n else np.arange(world.n)
    order: NDArray[np.intp] = best[np.argsort(-scores[best], kind="stable")]
    return order


def _measured(world: World, draw: Draw, model: Model) -> dict[str, float]:
    """Return the measures of a model's answer; marked items count as returned or not by their mark."""
    start = time.perf_counter()
    answer: Answer = model(world, draw)
    measured = {"seconds": time.perf_counter() - start}
    good, bad = world.flags(draw.positives), world.flags(draw.negatives)
    unmarked = ~good & ~bad
    if answer.matched is not None:
        matched = (answer.matched | good) & ~bad
        measured["f1"] = f1(matched, draw.right)
        measured["unmarked"] = f1(matched & unmarked, draw.right & unmarked)
        measured["precision"], measured["recall"] = precision_recall(matched, draw.right)
    if answer.scores is not None:
        scores = np.where(good, np.inf, np.where(bad, -np.inf, answer.scores))
        measured["oracle"] = best_f1(scores, draw.right)
        measured["oracle_unmarked"] = best_f1(scores[unmarked], draw.right[unmarked])
        order = np.flatnonzero(unmarked)
        order = order[np.argsort(-scores[order], kind="stable")]
        measured["average_precision"] = average_precision(order, draw.right & unmarked)
    return measured


def _mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def _plain(array: NDArray[np.float64]) -> list[Any]:
    rounded = np.round(array, 4).astype(object)
    rounded[np.isnan(array)] = None
    nested: list[Any] = rounded.tolist()
    return nested
