"""Fit every method, encode the items, search, and measure the results."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import unit
from gpubranches.encoders.heads import Head, PCAHead, RCAHead
from gpubranches.encoders.quantizers import SignQuantizer
from gpubranches.research.codes.codecs import (
    BYTES,
    CatalogBits,
    Codec,
    FullEmbeddings,
    HeadMethod,
    Method,
    SignsMethod,
    stored,
)
from gpubranches.research.codes.faiss_codecs import RECIPES, FaissMethod, require_faiss
from gpubranches.research.codes.measures import (
    FIRST,
    best_rows,
    code_entropy,
    nearest_distances,
    place_of_nearest,
    share_found,
    values_used,
)
from gpubranches.research.codes.search_task import Rows, SearchTask
from gpubranches.research.quality.measures import average_precision, mean_and_error

UNSEEN = 10
"""Number of true neighbours of a query among the few items that nothing was fitted to."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Found:
    """The results of a codec for one kind of queries.

    places: (q,) int64, the rank of the true nearest from 0, `looked` if it is not among that many; shares: (q,)
    float64, the share of the true nearest found among the same number of answers.
    """

    places: NDArray[np.int64]
    shares: NDArray[np.float64]
    looked: int

    def recall(self, first: int) -> tuple[float, float]:
        """Return the share of queries whose true nearest is among the `first`, and its standard error."""
        return mean_and_error(self.places < first)

    def share(self) -> tuple[float, float]:
        """Return the mean share of true neighbours found, k-recall@k, and its standard error."""
        return mean_and_error(self.shares)

    def curve(self) -> NDArray[np.float64]:
        """Return the recall among the first 1, 2, .. answers, (looked,) float64."""
        counts = np.bincount(self.places, minlength=self.looked + 1)[: self.looked]
        curve: NDArray[np.float64] = counts.cumsum() / len(self.places)
        return curve


@dataclass(frozen=True)
class Measured:
    """A codec and its results.

    method, name, bytes, description: its own; fit_s: of the method, shared by its codecs; encode_s: of all items;
    found: by kind of queries, over the base; unseen: over the items that nothing was fitted to; precision: (classes,)
    float64, average precision of each class's name over all items, or None without such names.
    """

    method: str
    name: str
    bytes: int
    description: str
    fit_s: float
    encode_s: float
    found: Mapping[str, Found]
    unseen: Mapping[str, Found]
    precision: NDArray[np.float64] | None


@dataclass(frozen=True)
class Spread:
    """The distribution of vectors and codes.

    distances: (q,) float32, of image queries to the nearest of the base on the unit sphere; entropy: (d,) float64, of
    uint8 codes in bits; used: (d,) float64, share of the 256 values that occur; both None for floats.
    """

    name: str
    distances: NDArray[np.float32]
    entropy: NDArray[np.float64] | None = None
    used: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Truth:
    """The true nearest rows by kind of queries, (q, k) int64, nearest first: of the base, and of the unseen items."""

    base: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    unseen: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


def choose_methods(
    task: SearchTask, heads: Mapping[str, Head], signs: SignQuantizer, *, faiss: bool = True
) -> tuple[list[Method], dict[str, str]]:
    """Return the methods to measure, and the reason for each that is left out.

    heads: fitted heads by name, in addition to rca and pca, which are fitted here; signs: the catalog's; faiss: whether
    to measure its codecs; raises BackendUnavailableError if it is missing.
    """
    methods: list[Method] = [HeadMethod(name, head) for name, head in heads.items()]
    methods += [HeadMethod(head.kind, head, fitted=False) for head in (RCAHead(BYTES), PCAHead(BYTES))]
    left_out: dict[str, str] = {}
    if task.dims >= 8 * BYTES:
        methods.append(SignsMethod())
    else:
        left_out[SignsMethod.name] = f"needs {8 * BYTES} embedding dims or more; these have {task.dims}"
    for recipe in RECIPES:
        reason = recipe.lacks(task.dims, len(task.fit)) if faiss else "asked for without faiss"
        if reason:
            left_out[recipe.name] = reason
        else:
            require_faiss()
            methods.append(FaissMethod(recipe))
    return [*methods, CatalogBits(signs), FullEmbeddings(task.dims)], left_out


def measure(
    task: SearchTask, methods: Sequence[Method], progress: Progress | None = None
) -> tuple[list[Measured], list[Spread]]:
    """Return what every codec found, in order, and the spread before and after every head.

    progress: called with a stage, the methods done and their number.
    """
    truth = Truth(
        {kind: _true(task, task.base, queries, FIRST) for kind, queries in task.queries.items()},
        {kind: _true(task, task.unseen, queries, UNSEEN) for kind, queries in task.queries.items()},
    )
    sample = task.items.take(task.fit)
    results: list[Measured] = []
    spreads = [_spread_of(task, "embeddings", task.items.raw), _spread_of(task, "centred", task.items.centred)]
    for number, method in enumerate(methods):
        start = time.perf_counter()
        method.fit(sample)
        fit_s = time.perf_counter() - start
        for codec in method.codecs():
            start = time.perf_counter()
            codes = stored(codec, task.items)
            encode_s = time.perf_counter() - start
            results.append(_measured(task, truth, method.name, codec, codes, fit_s, encode_s))
        if isinstance(method, HeadMethod):
            spreads += spread_of_head(task, method)
        if progress is not None:
            progress("codecs", number + 1, len(methods))
    return results, spreads


def spread_of_head(task: SearchTask, method: HeadMethod) -> list[Spread]:
    """Return the spread of a fitted head's vectors, and of its codes under every quantizer."""
    vectors = method.head.transform(task.items.raw)
    spreads = [_spread_of(task, f"{method.name} float", vectors)]
    for word, quantizer in method.quantizers_.items():
        codes = quantizer.encode(vectors)
        distances = _spread_of(task, f"{method.name} {word}", quantizer.decode(codes)).distances
        base = codes[task.base]
        spreads.append(Spread(f"{method.name} {word}", distances, code_entropy(base), values_used(base)))
    return spreads


def _spread_of(task: SearchTask, name: str, vectors: NDArray[np.float32]) -> Spread:
    vectors = unit(vectors)
    return Spread(name, nearest_distances(vectors[task.test], vectors[task.base]))


def _true(task: SearchTask, rows: NDArray[np.int64], queries: Rows, k: int) -> NDArray[np.int64]:
    base = task.items.centred[rows]
    return best_rows(lambda part: queries.centred[part] @ base.T, len(queries), task.ids[rows], k)


def _measured(
    task: SearchTask,
    truth: Truth,
    method: str,
    codec: Codec,
    codes: NDArray[np.generic],
    fit_s: float,
    encode_s: float,
) -> Measured:
    def found(rows: NDArray[np.int64], true: Mapping[str, NDArray[np.int64]]) -> dict[str, Found]:
        over: dict[str, Found] = {}
        for kind, queries in task.queries.items():
            k = true[kind].shape[1]
            answer = codec.search(codes[rows], task.ids[rows], queries, k)
            over[kind] = Found(place_of_nearest(answer, true[kind]), share_found(answer, true[kind]), k)
        return over

    precision = None
    if task.class_texts is not None:
        orders = codec.search(codes, task.ids, task.class_texts, len(codes))
        rights = [np.isin(task.ids, concept.items) for concept in task.concepts]
        precision = np.array([average_precision(*pair) for pair in zip(orders, rights, strict=True)])
    return Measured(
        method=method,
        name=codec.name,
        bytes=codec.bytes,
        description=codec.description,
        fit_s=fit_s,
        encode_s=encode_s,
        found=found(task.base, truth.base),
        unseen=found(task.unseen, truth.unseen),
        precision=precision,
    )
