"""The data that a head is trained on and evaluated by: embeddings, split and centred."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import unit
from gpubranches.core.embedding_space import digest
from gpubranches.core.tie_order import splitmix64
from gpubranches.encoders.holdout import split
from gpubranches.encoders.quantizers import ScalarQuantizer
from gpubranches.errors import ArrayError, DataError, UsageError

JUDGED = 20_000
"""The largest number of rows among which the held-out rows are searched."""
_NEIGHBORS = 100
_BLOCK_ROWS = 8192

Ids = NDArray[np.int64]


class TrainingData:
    """Rows for training, held-out rows for early stopping, and texts.

    embeddings: (n, D) float16 or float32, unit rows, of images; ids: (n,) int64 ascending, which determine what is held
    out (None: the numbers of the rows). texts: (m, D) float32 with names, whose ranking of the images the head keeps;
    text_mean: (D,) float32, which is subtracted from texts. pairs: (n, D), instead of texts, the text of every image.
    embedder: identity of what made all embeddings. Raises UsageError or DataError for data that cannot be trained on.

    fit: training rows; base: a sample of them that is searched; judged: the held-out queries, then that sample;
    mean: (D,) float32, of the rows of `fit`.
    """

    def __init__(
        self,
        embeddings: NDArray[Any],
        *,
        ids: Ids | None = None,
        texts: NDArray[np.float32] | None = None,
        names: list[str] | None = None,
        text_mean: NDArray[np.float32] | None = None,
        pairs: NDArray[Any] | None = None,
        embedder: str = "",
    ):
        _require_rows(embeddings, "embeddings")
        self.embeddings, self.names, self.embedder = embeddings, names or [], embedder
        self.n, self.D = embeddings.shape
        parts = split(np.arange(self.n) if ids is None else ids)
        self.fit = parts.fit
        if not len(parts.validation):
            raise UsageError(f"embeddings: expected at least 20 rows, because some are held out, got {self.n}")
        self.mean = self._mean(embeddings, self.fit)
        self.pairs = pairs
        self.text_mean = text_mean
        if pairs is not None:
            if pairs.shape != embeddings.shape:
                raise UsageError(
                    f"pairs: expected {embeddings.shape}, a text for every image, got {pairs.shape}; "
                    "row i of the texts belongs to row i of the images"
                )
            _require_rows(pairs, "pairs")
            self.text_mean = self._mean(pairs, self.fit)
        self.texts = None if texts is None else self._centred_texts(texts)
        self.base = np.sort(self.fit[np.argsort(splitmix64(self.fit), kind="stable")[:JUDGED]])
        self.judged = np.concatenate([parts.validation, self.base])
        self._queries = len(parts.validation)
        self._neighbors = min(_NEIGHBORS, len(self.base))
        centred = self.centred(self.judged)
        self._truth = self._nearest(centred[: self._queries], centred[self._queries :])
        self._scalar = ScalarQuantizer(low=-1.0, high=1.0)

    @property
    def validation(self) -> Ids:
        """The held-out rows among `judged`."""
        return self.judged[: self._queries]

    @property
    def identity(self) -> str:
        """Digest of the training data."""
        parts: list[NDArray[Any]] = [self.mean, self.fit, self.embeddings[self.fit[:64]]]
        parts += [part for part in (self.texts, self.text_mean) if part is not None]
        return digest(*parts, self.embedder, "pairs" if self.pairs is not None else "")

    def centred(self, rows: Ids) -> NDArray[np.float32]:
        """Return centred unit embeddings of rows, (m, D) float32."""
        return unit(self.embeddings[rows].astype(np.float32) - self.mean)

    def paired(self, rows: Ids) -> NDArray[np.float32]:
        """Return centred unit embeddings of the rows' texts, (m, D) float32."""
        if self.pairs is None or self.text_mean is None:
            raise UsageError("pairs: expected a text for every image, got none")
        return unit(self.pairs[rows].astype(np.float32) - self.text_mean)

    def mixed_texts(self, count: int, seed: list[int]) -> NDArray[np.float32]:
        """Draw centred unit texts, (count, D) float32: half are names, half mix a name with up to half of another."""
        if self.texts is None:
            raise UsageError("texts: expected some, got none")
        rng = np.random.default_rng(seed)
        first, second = rng.integers(0, len(self.texts), (2, count))
        share = np.where(rng.random(count) < 0.5, rng.random(count) / 2, 0.0).astype(np.float32)[:, None]
        return unit((1 - share) * self.texts[first] + share * self.texts[second])

    def recall(self, vectors: NDArray[np.float32]) -> float:
        """Return the mean share of the true nearest rows that the uint8 codes of vectors find, over held-out queries.

        vectors: (m, d) float32, of the rows of `judged`.
        """
        return self._found(vectors[: self._queries], vectors[self._queries :], self._truth)

    def text_recall(self, texts: NDArray[np.float32], vectors: NDArray[np.float32], base: NDArray[np.float32]) -> float:
        """Return the recall of texts, (q, D) centred, by their vectors, (q, d); base: vectors of the rows of `base`."""
        return self._found(vectors, base, self._nearest(texts, self.centred(self.base)))

    def _found(self, queries: NDArray[np.float32], base: NDArray[np.float32], truth: NDArray[np.intp]) -> float:
        scalar = self._scalar.fit(base)
        near = self._nearest(scalar.decode(scalar.encode(queries)), scalar.decode(scalar.encode(base)))
        hits = [len(np.intersect1d(a, b, assume_unique=True)) for a, b in zip(near, truth, strict=True)]
        return float(np.mean(hits)) / self._neighbors

    def _nearest(self, queries: NDArray[np.float32], base: NDArray[np.float32]) -> NDArray[np.intp]:
        """Return the rows of base nearest to the queries, (q, k) in any order, by squared distance."""
        likeness = queries @ base.T - np.einsum("ij,ij->i", base, base) / 2
        nearest: NDArray[np.intp] = np.argpartition(-likeness, self._neighbors - 1, axis=1)[:, : self._neighbors]
        return nearest

    def _centred_texts(self, texts: NDArray[np.float32]) -> NDArray[np.float32]:
        _require_rows(texts, "texts")
        if texts.shape[1] != self.D:
            raise UsageError(f"texts: expected embeddings of {self.D} dims as the images', got {texts.shape[1]}")
        if self.text_mean is None:
            self.text_mean = texts.mean(axis=0, dtype=np.float64).astype(np.float32)
        return unit(texts - self.text_mean)

    @staticmethod
    def _mean(rows: NDArray[Any], chosen: Ids) -> NDArray[np.float32]:
        total = np.zeros(rows.shape[1], np.float64)
        for start in range(0, len(chosen), _BLOCK_ROWS):
            total += rows[chosen[start : start + _BLOCK_ROWS]].sum(axis=0, dtype=np.float64)
        return (total / len(chosen)).astype(np.float32)


def _require_rows(rows: NDArray[Any], name: str) -> None:
    """Raise DataError for rows that are not finite or are zero, and for dims that are the same in all rows."""
    if rows.ndim != 2 or rows.dtype not in (np.float16, np.float32):
        raise ArrayError(f"{name}: expected float16 or float32 of shape (n, D), got {rows.dtype} of {rows.shape}")
    low, high = np.full(rows.shape[1], np.inf), np.full(rows.shape[1], -np.inf)
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = rows[start : start + _BLOCK_ROWS].astype(np.float32)
        bad = np.flatnonzero(~np.isfinite(block).all(axis=1) | ~block.any(axis=1))
        if len(bad):
            raise DataError(
                f"{name}: expected finite rows that are not zero, {len(bad)} of the rows from {start} on are not, "
                f"such as {(start + bad[:5]).tolist()}; remove them, or embed their images again"
            )
        low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
    constant = np.flatnonzero(low == high)
    if len(rows) > 1 and len(constant):
        raise DataError(
            f"{name}: expected dims that vary, {len(constant)} of {rows.shape[1]} are the same in all rows, such as "
            f"{constant[:5].tolist()}; these are not embeddings of a model, or they are damaged"
        )
