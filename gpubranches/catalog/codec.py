"""Embeddings to codes: a head and the quantizer of its vectors, fitted once for a catalog."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import Catalog, require_code_dims
from gpubranches.encoders.heads import LINEAR, Head, load_head, open_head, require_head
from gpubranches.encoders.quantizers import ScalarQuantizer, scalar_quantizer
from gpubranches.errors import DataError

FIT_ROWS = 100_000
"""Rows, evenly spaced, on which the constants are fitted."""
FEW_ROWS = 1000
"""Items below which a quantizer by quantiles is none to choose unasked."""


@dataclass(frozen=True)
class Coder:
    """A head and the quantizer of its vectors; ready: whether the head is fitted already, or was read from a file."""

    head: Head
    scalar: ScalarQuantizer
    ready: bool

    @classmethod
    def choose(
        cls, spec: str | None, *, D: int, rows: int, d: int = 32, quantizer: str | None = None, embedder: str = ""
    ) -> Coder:
        """Return what is to be fitted: by a head's spec, see `open_head`, and a quantizer's name.

        spec: None for the usual head; quantizer: None for the head's usual one, but "uniform" for fewer than `FEW_ROWS`
        items, whose quantiles say little of those to come. D: dims of the embeddings; rows: how many there are; d: code
        dims of a linear head; embedder: identity of what made the embeddings. Raises
        UsageError or CatalogFormatError for a head or a quantizer that cannot be used.
        """
        spec = LINEAR[0] if spec is None else spec
        head, ready = open_head(spec, d=d)
        if ready:
            require_head(head, D, embedder)
        if ready or spec in LINEAR:
            require_code_dims(head.d if ready else d)
        name = quantizer or (head.usual_quantizer if rows >= FEW_ROWS else "uniform")
        return cls(head, scalar_quantizer(name, head.code_range), ready)

    @classmethod
    def of(cls, catalog: Catalog) -> Coder | None:
        """Return what made the codes of a catalog, or None for a catalog of codes alone."""
        if catalog.head_path is None or catalog.scalar is None:
            return None
        return cls(load_head(catalog.head_path), catalog.scalar, ready=True)

    def fit(self, sample: NDArray[np.float32]) -> Self:
        """Learn from embeddings, (n, D) float32, what is not given. Returns self."""
        if not self.ready:
            self.head.fit(sample)
        self.scalar.fit(self._vectors(sample))
        return self

    def codes(self, embeddings: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return codes, (n, d) uint8, of embeddings, (n, D) float32. Raises DataError if the head gives no numbers."""
        return self.scalar.encode(self._vectors(embeddings))

    def text_codes(self, embeddings: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return codes, (q, d) uint8, of text embeddings, (q, D) float32. Raises UsageError without a text tower."""
        return self.scalar.encode(self.head.transform_texts(embeddings))

    def _vectors(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        with np.errstate(over="ignore", invalid="ignore"):
            vectors = self.head.transform(embeddings)
            bad = int((~np.isfinite(vectors).all(axis=1)).sum())
        if bad:
            raise DataError(
                f"head {self.head.identity}: expected vectors of finite numbers, got NaN or infinity for {bad:,} of "
                f"{len(vectors):,} embeddings; take another head, or train it again"
            )
        return vectors


def unit_rows(rows: NDArray[Any]) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """Return rows scaled to unit length in float16, and which have no length or numbers that are not finite."""
    wide = rows.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    bad = ~np.isfinite(lengths) | (lengths == 0)
    wide[bad] = 0
    lengths[bad] = 1
    return (wide / lengths[:, None]).astype(np.float16), bad
