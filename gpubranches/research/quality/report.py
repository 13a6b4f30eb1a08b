"""The report of an evaluation: tables for the terminal and for Markdown, and JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from gpubranches.errors import UsageError
from gpubranches.research.quality.answers import Model
from gpubranches.research.quality.comparison import LEVELS, Comparison
from gpubranches.research.quality.concepts import Concept
from gpubranches.research.quality.labelled_catalog import FIRST, UNCHECKED
from gpubranches.research.quality.models import MODELS
from gpubranches.research.quality.rounds import PAGE, POLICIES, Policy
from gpubranches.research.quality.size_bands import by_size
from gpubranches.research.quality.users import DEFAULT_USER, User, described
from gpubranches.research.tables import Section, with_error

COLUMNS = {
    "F1": "f1",
    "unmarked F1": "unmarked",
    "precision": "precision",
    "recall": "recall",
    "AP": "average_precision",
    "oracle F1": "oracle",
}
"""Headings of the table of models, and the measure under each."""
REFERENCE = "refine"
"""The model the others are subtracted from, unless another is named."""
_PLAYED: dict[str, Model | Policy] = {**MODELS, **POLICIES}


@dataclass(frozen=True)
class Report:
    """The results of an evaluation.

    n: items of the catalog; concepts: those played; models: of evaluate; rounds: of play_rounds, or None; against: the
    model whose paired differences from the others are reported; facts: further facts by name; user: who marked.
    """

    stem: ClassVar[str] = "evaluation"

    n: int
    concepts: Sequence[Concept]
    models: Comparison
    rounds: Comparison | None
    against: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    user: User = DEFAULT_USER

    def sections(self) -> Iterator[Section]:
        """Yield all tables, in the order they are read."""
        for p in self.models.places:
            yield self._models(p)
            yield from by_size(self.models, self._sizes, [p], f"p = {p}, F1 by size of concept")
        if len(self.models.values) > 1:
            for p in self.models.places:
                yield self._differences(p)
        if self.rounds is not None:
            for title, measure in (("F1", "f1"), ("unmarked F1", "unmarked"), ("oracle F1", "oracle")):
                yield _rounds(self.rounds, title, measure)
            yield from by_size(self.rounds, self._sizes, self.rounds.places, "F1 by round and size of concept")
            if len(self.rounds.values) > 1:
                yield _rounds_apart(self.rounds)

    def markdown(self) -> str:
        """Return the introduction and all tables as Markdown, headings from the second order on."""
        return "\n\n".join([self.introduction(), *(section.markdown() for section in self.sections()), self._names()])

    def introduction(self) -> str:
        """Return two or three lines about what was simulated."""
        skipped = ", ".join(f"{self.models.skipped(p)} at p = {p}" for p in self.models.places)
        texts = sum(concept.text for concept in self.concepts)
        wrong = f"{self.user.wrong} wrong, " if self.user.wrong else ""
        told = "".join(f" {name}: {value}." for name, value in self.facts.items())
        return (
            f"{self.n:,} items, {len(self.concepts)} concepts ({texts} asked for by words, the others by a noisy "
            f"mean of their items), {self.models.seeds} seeds; skipped draws: {skipped}. First page of {FIRST}; the "
            f"user {self.user.description}; up to p right, {wrong}{UNCHECKED:,} random negatives. Means over concepts "
            f"± standard error; AP: average precision over unmarked items; oracle: the best cut of the ranking, known "
            f"to nobody.{told}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything, with the value of every draw, as a JSON-able dict."""
        curves: dict[str, dict[str, list[float]]] = {model: {} for model in self.models.curves}
        for model in curves:
            for p in self.models.places:
                curve = self.models.curve(model, p)
                if curve is not None:
                    curves[model][str(p)] = curve.round(4).tolist()
        data: dict[str, Any] = {
            "n": self.n,
            "concepts": [
                {
                    "name": c.name,
                    "text": c.text,
                    "items": len(c.items),
                    "query": c.asked if c.text else None,
                    "where": c.where,
                }
                for c in self.concepts
            ],
            "user": described(self.user),
            "seeds": self.models.seeds,
            "positives": self.models.places,
            "skipped": {str(p): self.models.skipped(p) for p in self.models.places},
            "facts": dict(self.facts),
            "models": {name: MODELS[name].description for name in self.models.values if name in MODELS},
            "means": self.models.summary(),
            "against": self.against,
            "differences": self.models.differences(self.against),
            "precision": {"recall": LEVELS.round(2).tolist(), "models": curves},
            "values": self.models.raw(),
            "rounds": None,
        }
        if self.rounds is not None:
            reference = next(iter(self.rounds.values))
            data["rounds"] = {
                "policies": {name: _PLAYED[name].description for name in self.rounds.values if name in _PLAYED},
                "means": self.rounds.summary(),
                "against": reference,
                "differences": self.rounds.differences(reference),
                "values": self.rounds.raw(),
            }
        return data

    @property
    def _sizes(self) -> list[int]:
        return [len(concept.items) for concept in self.concepts]

    def _models(self, p: int) -> Section:
        rows = []
        for model in self.models.values:
            cells = [
                with_error(*self.models.mean(model, measure, p)) if self.models.has(model, measure) else ""
                for measure in COLUMNS.values()
            ]
            rows.append((model, *cells, f"{self.models.milliseconds(model):.0f}"))
        return Section(f"p = {p}", ("model", *COLUMNS, "ms"), rows)

    def _differences(self, p: int) -> Section:
        header = (f"{self.against} minus", "F1", "concepts won", "unmarked F1", "concepts won", "cut")
        rows: list[tuple[str, ...]] = [
            (
                row["other"],
                _signed(row["f1"]),
                _share(row["f1"]["wins"]),
                _signed(row["unmarked"]),
                _share(row["unmarked"]["wins"]),
                row["cut"],
            )
            for row in self.models.differences(self.against)
            if row["place"] == p
        ]
        return Section(f"p = {p}, paired differences", header, rows)

    def _names(self) -> str:
        lines = [f"- `{name}` {MODELS[name].description}" for name in self.models.values if name in MODELS]
        if self.rounds is not None:
            others = [name for name in self.rounds.values if name in _PLAYED and name not in self.models.values]
            lines += [f"- `{name}` {_PLAYED[name].description}" for name in others]
        return "\n".join(["## Names", "", *lines])


def reference_among(names: Sequence[str], against: str | None) -> str:
    """Return the model to compare the others with: the one named, else refine, else the last.

    Raises UsageError if the one named is not among those compared.
    """
    if against is not None and against not in names:
        raise UsageError(f"against: expected one of the models compared, {', '.join(names)}; got {against!r}")
    return against or (REFERENCE if REFERENCE in names else names[-1])


def _rounds(rounds: Comparison, title: str, measure: str) -> Section:
    """Return a table of a measure by round, with the number of concepts in brackets if some have no value."""
    rows = []
    for policy in rounds.values:
        cells = []
        for place in rounds.places:
            counted = rounds.counted(policy, measure, place)
            fewer = f" ({counted})" if counted < rounds.counted(policy, "f1", place) else ""
            cells.append(with_error(*rounds.mean(policy, measure, place)) + fewer)
        rows.append((policy, *cells))
    return Section(f"{title} by round, {PAGE} marks a round", ("policy", *map(str, rounds.places)), rows)


def _rounds_apart(rounds: Comparison) -> Section:
    reference, *others = rounds.values
    rows = []
    for other in others:
        for title, measure in (("F1", "f1"), ("unmarked F1", "unmarked")):
            cells = []
            for place in rounds.places[1:]:
                mean, error, wins = rounds.paired(reference, other, measure, place)
                cells.append(f"{_signed({'mean': mean, 'error': error})}, {_share(wins)}")
            rows.append((f"{other}, {title}", *cells))
    header = (f"{reference} minus", *map(str, rounds.places[1:]))
    return Section("By round, paired differences and concepts won", header, rows)


def _signed(found: Mapping[str, float | None]) -> str:
    mean, error = (math.nan if found[name] is None else float(found[name] or 0) for name in ("mean", "error"))
    return ("+" if mean >= 0 else "") + with_error(mean, error)


def _share(wins: float | None) -> str:
    return "-" if wins is None or math.isnan(wins) else f"{wins:.0%}"
