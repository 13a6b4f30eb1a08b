"""Codecs of faiss at 32 bytes per item, fitted to the centred embeddings, searched asymmetrically as faiss does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gpubranches.errors import missing_package
from gpubranches.research.codes.codecs import BYTES, Codec, Ids
from gpubranches.research.codes.search_task import Rows

CENTROIDS = 256
"""The least number of rows that an 8-bit quantizer is fitted to: one per centroid."""
SEED = 0
"""Seed of the rotation before RaBitQ; faiss fixes the other seeds."""
_RABITQ_DIMS = 8 * (BYTES - 8)
"""Dims, of one sign bit each, that fit beside RaBitQ's two factors of four bytes per item."""
LOCAL_PARTS = 4
"""Number of parts of the local search quantizer."""
OPQ_ROUNDS = 50
"""Rounds of fitting rotation and parts in turn, faiss's own number; half as many find fewer of the nearest."""
LOCAL_ROUNDS = (5, 4, 8)
"""Rounds of fitting, and of local search in fitting and in encoding; faiss's own numbers are 25, 8 and 16."""

Built = tuple[list[Any], Any]
"""Transforms, one after the other, and the index behind them."""


@dataclass(frozen=True)
class Recipe:
    """How to build a faiss codec, and its requirements.

    build: called with the module faiss and D; dims: D at least; multiple: of which D must be one; rows: to fit to, at
    least; metric_in_code: whether the codes depend on the metric; decoded: whether to search over decoded vectors,
    because its distance is computed from them and faiss would decode them again for every query.
    """

    name: str
    description: str
    build: Callable[[Any, int], Built]
    dims: int = 1
    multiple: int = 1
    rows: int = 1
    metric_in_code: bool = False
    decoded: bool = False

    def lacks(self, dims: int, rows: int) -> str:
        """Return what the codec needs but lacks, or nothing."""
        if dims < self.dims or dims % self.multiple:
            multiple = f", a multiple of {self.multiple}" if self.multiple > 1 else ""
            return f"needs {max(self.dims, self.multiple)} embedding dims or more{multiple}; these have {dims}"
        if rows < self.rows:
            return f"needs {self.rows} rows to fit to or more; these are {rows}"
        return ""


def _pq(faiss: Any, dims: int) -> Built:
    index = faiss.IndexPQ(dims, BYTES, 8)
    index.pq.cp.min_points_per_centroid = 1
    return [], index


def _opq(faiss: Any, dims: int) -> Built:
    rotation = faiss.OPQMatrix(dims, BYTES)
    rotation.niter = OPQ_ROUNDS
    parts = faiss.ProductQuantizer(dims, BYTES, 8)
    parts.cp.min_points_per_centroid = 1
    rotation.pq = parts
    rotation.referenced_objects = [parts]
    return [rotation], _pq(faiss, dims)[1]


def _scalar(faiss: Any, dims: int) -> Built:
    return [faiss.PCAMatrix(dims, 2 * BYTES)], faiss.IndexScalarQuantizer(2 * BYTES, faiss.ScalarQuantizer.QT_4bit)


def _rabitq(faiss: Any, dims: int) -> Built:
    rotation = faiss.RandomRotationMatrix(_RABITQ_DIMS, _RABITQ_DIMS)
    rotation.init(SEED)
    return [faiss.PCAMatrix(dims, _RABITQ_DIMS), rotation], faiss.IndexRaBitQ(_RABITQ_DIMS)


def _residual(faiss: Any, dims: int) -> Built:
    index = faiss.IndexResidualQuantizer(dims, BYTES, 8)
    index.rq.train_type = faiss.ResidualQuantizer.Train_default
    index.rq.max_beam_size = 1
    index.rq.cp.min_points_per_centroid = 1
    return [], index


def _local_search(faiss: Any, dims: int) -> Built:
    """Fit four parts of eight codebooks each, because faiss takes a minute or two per round to fit 32 codebooks."""
    index = faiss.IndexProductLocalSearchQuantizer(dims, LOCAL_PARTS, BYTES // LOCAL_PARTS, 8)
    for part in range(LOCAL_PARTS):
        books = faiss.downcast_AdditiveQuantizer(index.plsq.subquantizer(part))
        books.train_iters, books.train_ils_iters, books.encode_ils_iters = LOCAL_ROUNDS
    return [], index


RECIPES = (
    Recipe("PQ32", "product quantizer, 32 parts of 8 bits", _pq, multiple=BYTES, rows=CENTROIDS),
    Recipe("OPQ32+PQ32", "rotation fitted to it, then the product quantizer", _opq, multiple=BYTES, rows=CENTROIDS),
    Recipe("PCA64+SQ4", "64 principal dims of 4 bits", _scalar, dims=2 * BYTES),
    Recipe(
        "RaBitQ",
        "192 rotated principal dims of 1 bit, two factors an item",
        _rabitq,
        dims=_RABITQ_DIMS,
        metric_in_code=True,
    ),
    Recipe("RQ32x8", "residual quantizer, 32 steps of 8 bits, greedy", _residual, rows=CENTROIDS, decoded=True),
    Recipe(
        "LSQ4x8x8",
        "local search quantizer, 4 parts of 8 books of 8 bits, 5 rounds",
        _local_search,
        multiple=LOCAL_PARTS,
        rows=CENTROIDS,
        decoded=True,
    ),
)
"""The codecs of faiss, each of 32 bytes per item."""


class FaissMethod:
    """A recipe of faiss, fitted once and searched by distance and by inner product."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self._encoded: tuple[Rows, NDArray[np.uint8]] | None = None

    @property
    def name(self) -> str:
        """The name of the recipe."""
        return self.recipe.name

    def fit(self, sample: Rows) -> Self:
        """Train transforms and index on the centred embeddings. Raises BackendUnavailableError without faiss."""
        faiss = require_faiss()
        rows = sample.centred
        self.transforms_, self.index_ = self.recipe.build(faiss, rows.shape[1])
        with one_thread(faiss):
            for transform in self.transforms_:
                if not transform.is_trained:
                    transform.train(rows)
                rows = transform.apply(rows)
            self.index_.train(rows)
        self._encoded = None
        return self

    def encode(self, rows: Rows, inner_product: bool) -> NDArray[np.uint8]:
        """Return codes, (m, bytes) uint8; those of the rows encoded last are kept for the other metric."""
        faiss = require_faiss()
        if self._encoded is None or self._encoded[0] is not rows or self.recipe.metric_in_code:
            with one_thread(faiss):
                self._encoded = rows, self.index(faiss, inner_product).sa_encode(self.transformed(rows))
        return self._encoded[1]

    def index(self, faiss: Any, inner_product: bool) -> Any:
        """Return the index, set to a metric."""
        self.index_.metric_type = faiss.METRIC_INNER_PRODUCT if inner_product else faiss.METRIC_L2
        if isinstance(self.index_, faiss.IndexRaBitQ):
            self.index_.rabitq.metric_type = self.index_.metric_type
        return self.index_

    def transformed(self, rows: Rows) -> NDArray[np.float32]:
        """Return the centred embeddings after the transforms, (m, dims of the index) float32."""
        vectors = rows.centred
        for transform in self.transforms_:
            vectors = transform.apply(vectors)
        return vectors

    def codecs(self) -> tuple[Codec, ...]:
        """Return the codec under each metric: by distance, and by inner product."""
        return self._codec(inner_product=False), self._codec(inner_product=True)

    def _codec(self, *, inner_product: bool) -> Codec:
        shared = "" if self.recipe.metric_in_code else ", codes as by distance"
        metric = f"inner product{shared}" if inner_product else "distance"

        def search(codes: NDArray[Any], ids: Ids, queries: Rows, k: int) -> NDArray[np.int64]:
            """Return what faiss ranks first; it may order ties differently."""
            faiss = require_faiss()
            with one_thread(faiss):
                index = self.index(faiss, inner_product)
                if self.recipe.decoded:
                    flat = faiss.IndexFlat(index.d, index.metric_type)
                    flat.add(index.sa_decode(codes))
                    index = flat
                else:
                    index.reset()
                    index.add_sa_codes(codes)
                found: NDArray[np.int64] = index.search(self.transformed(queries), min(k, len(codes)))[1]
            return found

        return Codec(
            f"{self.name} ip" if inner_product else self.name,
            BYTES,
            f"faiss: {self.recipe.description}; queries as they are, by {metric}",
            lambda rows: self.encode(rows, inner_product),
            search,
        )


@contextmanager
def one_thread(faiss: Any) -> Iterator[None]:
    """Limit faiss to one thread, because several threads on busy cores are many times slower."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def require_faiss() -> Any:
    """Return the module faiss.

    Raises BackendUnavailableError with the extra that brings it and the option that avoids it.
    """
    try:
        import faiss
    except ImportError as error:
        raise missing_package(
            "a codec of faiss", "faiss", "cpu", error=error, instead="pass --without-faiss"
        ) from error
    return faiss
