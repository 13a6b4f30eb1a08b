"""The report on codes: tables for the terminal and for Markdown, and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gpubranches.research.codes.answers import DECODED
from gpubranches.research.codes.measures import FIRST
from gpubranches.research.codes.measuring import UNSEEN, Found, Measured, Spread
from gpubranches.research.codes.search_task import SearchTask
from gpubranches.research.quality.comparison import Comparison
from gpubranches.research.quality.measures import mean_and_error
from gpubranches.research.tables import Section, json_number, short, with_error

_QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class CodesReport:
    """The results of a measurement of codes.

    task: the measured data and queries; results: by codec; spreads: by vectors and codes; left_out: reasons by codec;
    facts: further facts by name. answers: what marks find on each head's codes, see `compare_answers`.
    """

    stem: ClassVar[str] = "codes"

    task: SearchTask
    results: Sequence[Measured]
    spreads: Sequence[Spread]
    left_out: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    answers: Comparison | None = None

    def sections(self) -> Iterator[Section]:
        """Yield all tables, in the order they are read."""
        for kind in self.task.queries:
            yield self._recall(kind)
        if self.task.class_texts is not None:
            yield self._precision()
        yield self._unseen()
        if self.answers is not None:
            for place in self.answers.places:
                yield _answers(self.answers, place)
        yield self._spread()
        yield self._codecs()

    def introduction(self) -> str:
        """Return a few lines about what was measured and how."""
        task = self.task
        texts = f"{len(task.names):,} texts" if task.texts is not None else "no texts, for there is no embedder"
        told = "".join(f" {name}: {value}." for name, value in self.facts.items())
        missing = "".join(f" Left out: {name}, {reason}." for name, reason in self.left_out.items())
        return (
            f"{len(task.ids):,} items of {task.dims} embedding dims; codecs fitted to {len(task.fit):,}, "
            f"{len(task.base):,} searched; queries: {len(task.test):,} images that nothing was fitted to, {texts}. "
            "The truth is the cosine over all dims, images and texts each less their own mean. R@k: the true nearest "
            f"is among the first k; {FIRST}-R@{FIRST}: the share of the true {FIRST} nearest among the first {FIRST}; "
            "AP: mean average precision of a class's items for its name, over all items. Means ± standard error over "
            f"queries. Codecs of faiss are told by distance and, as ip, by inner product.{missing}{told}"
        )

    def markdown(self) -> str:
        """Return the introduction and all tables as Markdown, with headings of level 2 and below."""
        return "\n\n".join([self.introduction(), *(section.markdown() for section in self.sections())])

    def to_json(self) -> dict[str, Any]:
        """Return everything as a dict for JSON, with None for NaN."""
        task = self.task
        return {
            "n": len(task.ids),
            "D": task.dims,
            "fit": len(task.fit),
            "base": len(task.base),
            "unseen": len(task.unseen),
            "queries": {kind: len(queries) for kind, queries in task.queries.items()},
            "classes": [{"name": concept.name, "items": len(concept.items)} for concept in task.concepts],
            "left_out": dict(self.left_out),
            "facts": dict(self.facts),
            "codecs": [_codec_json(result) for result in self.results],
            "answers": None if self.answers is None else self.answers.summary(),
            "spread": [_spread_json(spread) for spread in self.spreads],
        }

    def _recall(self, kind: str) -> Section:
        rows = []
        for result in self.results:
            found = result.found[kind]
            cells = [with_error(*found.recall(first)) for first in (1, 10, FIRST)]
            rows.append((result.name, str(result.bytes), *cells, with_error(*found.share())))
        count = len(self.task.queries[kind])
        header = ("codec", "bytes", "R@1", "R@10", f"R@{FIRST}", f"{FIRST}-R@{FIRST}")
        return Section(f"Queries by {kind}, {count:,}", header, rows)

    def _precision(self) -> Section:
        rows: list[tuple[str, ...]] = [
            (result.name, str(result.bytes), with_error(*mean_and_error(result.precision)))
            for result in self.results
            if result.precision is not None
        ]
        return Section(f"Names of classes, {len(self.task.concepts)}", ("codec", "bytes", "AP"), rows)

    def _unseen(self) -> Section:
        kinds = tuple(self.task.queries)
        rows = []
        for result in self.results:
            cells = []
            for kind in kinds:
                found = result.unseen[kind]
                cells += [with_error(*found.recall(1)), with_error(*found.share())]
            rows.append((result.name, str(result.bytes), *cells))
        heads = [f"{kind}: {what}" for kind in kinds for what in ("R@1", f"{UNSEEN}-R@{UNSEEN}")]
        title = f"Among the {len(self.task.unseen):,} items that nothing was fitted to"
        return Section(title, ("codec", "bytes", *heads), rows)

    def _spread(self) -> Section:
        rows: list[tuple[str, ...]] = []
        for spread in self.spreads:
            distances = [short(float(value)) for value in np.quantile(spread.distances, _QUANTILES)]
            bits = ("", "")
            if spread.entropy is not None and spread.used is not None:
                entropy = spread.entropy
                bits = (
                    f"{entropy.mean():.2f} ({entropy.min():.2f} to {entropy.max():.2f})",
                    f"{spread.used.mean():.0%}",
                )
            rows.append((spread.name, *distances, short(float(spread.distances.mean())), *bits))
        header = ("vectors", "5%", "50%", "95%", "mean", "bits a code of 8", "values used of 256")
        return Section("Distance to the nearest on the unit sphere, entropy of the codes", header, rows)

    def _codecs(self) -> Section:
        rows: list[tuple[str, ...]] = [
            (result.name, str(result.bytes), f"{result.fit_s:.1f}", f"{result.encode_s:.1f}", result.description)
            for result in self.results
        ]
        header = ("codec", "bytes", "fit, s", "encode all, s", "what")
        return Section("Codecs; wall seconds of one run, noisy", header, rows)


def _answers(compared: Comparison, place: int) -> Section:
    """Return what marks find on each head's codes, and the differences from the last head."""
    reference = list(compared.values)[-1].split(" ")[0]
    rows: list[tuple[str, ...]] = []
    for name in compared.values:
        head, what = name.rsplit(" ", 1)
        measure = "recall" if what == "candidates" else "f1"
        mean = with_error(*compared.mean(name, measure, place))
        difference = ("", "")
        if head != reference:
            beside = "refine" if what == DECODED else what
            gain, error, wins = compared.paired(name, f"{reference} {beside}", measure, place)
            difference = (f"{gain:+.3f} ±{short(error)}", f"{wins:.0%}")
        rows.append((head, what, {"f1": "F1", "recall": "share found"}[measure], mean, *difference))
    header = ("codes by", "answer", "measure", "mean", f"less {reference}'s", "wins")
    return Section(f"What marks find on each head's codes, {place} marked right", header, rows)


def _codec_json(result: Measured) -> dict[str, Any]:
    precision = result.precision
    return {
        "name": result.name,
        "method": result.method,
        "description": result.description,
        "bytes": result.bytes,
        "fit_s": round(result.fit_s, 3),
        "encode_s": round(result.encode_s, 3),
        "found": {kind: _found_json(found, (1, 10, FIRST)) for kind, found in result.found.items()},
        "unseen": {kind: _found_json(found, (1, UNSEEN)) for kind, found in result.unseen.items()},
        "average_precision": None if precision is None else _numbers(*mean_and_error(precision)),
        "average_precision_by_class": None if precision is None else precision.round(4).tolist(),
    }


def _found_json(found: Found, firsts: tuple[int, ...]) -> dict[str, Any]:
    return {
        "recall": {str(first): _numbers(*found.recall(first)) for first in firsts},
        "share": {"of": found.looked, **_numbers(*found.share())},
        "curve": found.curve().round(4).tolist(),
    }


def _spread_json(spread: Spread) -> dict[str, Any]:
    quantiles = np.quantile(spread.distances, _QUANTILES).round(4).tolist()
    return {
        "name": spread.name,
        "distance": {"quantiles": dict(zip(map(str, _QUANTILES), quantiles, strict=True))}
        | {"mean": round(float(spread.distances.mean()), 4)},
        "entropy": _listed(spread.entropy),
        "used": _listed(spread.used),
    }


def _numbers(mean: float, error: float) -> dict[str, float | None]:
    return {"mean": json_number(mean), "error": json_number(error)}


def _listed(values: NDArray[np.float64] | None) -> list[float] | None:
    return None if values is None else values.round(4).tolist()
