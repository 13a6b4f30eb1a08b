"""Embeddings to codes and back: a head and the quantizer of its vectors, fitted once for a catalog."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog.manifest import require_code_dims
from gpubranches.encoders.quantizers import ScalarQuantizer, scalar_quantizer
from gpubranches.errors import DataError, UsageError

if TYPE_CHECKING:
    from gpubranches.encoders.heads import Head

FIT_ROWS = 100_000
"""Rows, evenly spaced, on which head and quantizers are fitted."""
FEW_ROWS = 1000
"""The least number of items for which the quantizer by quantiles is the default."""
_UNIT_ROWS = 256
"""Rows that are scaled at a time, few enough to stay in the cache of a core."""


@dataclass(frozen=True)
class Codec:
    """A head and the quantizer of its vectors. fitted: whether the head is already fitted, or was read from a file."""

    head: Head
    scalar: ScalarQuantizer
    fitted: bool

    @classmethod
    def choose(
        cls, spec: str | None, *, D: int, rows: int, d: int = 32, quantizer: str | None = None, embedder: str = ""
    ) -> Codec:
        """Return a codec to be fitted, by the spec of a head, see `open_head`, and the name of a quantizer.

        spec: None for the default head; quantizer: None for the head's default, or for "uniform" if there are fewer
        than `FEW_ROWS` items, because their quantiles say little about items that are added later. D: dims of the
        embeddings; rows: number of them; d: code dims of a linear head; embedder: identity of what made the embeddings.
        Raises UsageError or CatalogFormatError for a head or a quantizer that cannot be used.
        """
        from gpubranches.encoders.heads import LINEAR, open_head, require_head

        spec = LINEAR[0] if spec is None else spec
        head, fitted = open_head(spec, d=d)
        if fitted:
            require_head(head, D, embedder)
        if fitted or spec in LINEAR:
            require_code_dims(head.d if fitted else d)
        name = quantizer or (head.default_quantizer if rows >= FEW_ROWS else "uniform")
        return cls(head, scalar_quantizer(name, head.code_range), fitted)

    @classmethod
    def load(cls, path: Path | None, scalar: ScalarQuantizer | None) -> Codec | None:
        """Return the codec of a head's file and a fitted quantizer; None if either is missing (codes alone)."""
        if path is None or scalar is None:
            return None
        from gpubranches.encoders.heads import load_head

        return cls(load_head(path), scalar, fitted=True)

    @property
    def decodes(self) -> bool:
        """Whether the head has a decoder, see `decode`."""
        return self.head.decodes

    def fit(self, sample: NDArray[np.float32]) -> Self:
        """Fit the parts that are not fitted yet to embeddings, (n, D) float32. Returns self."""
        if not self.fitted:
            self.head.fit(sample)
        self.scalar.fit(self._vectors(sample))
        return self

    def encode(self, embeddings: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return codes, (n, d) uint8, of embeddings, (n, D) float32. Raises DataError if a vector is not finite."""
        return self.scalar.encode(self._vectors(embeddings))

    def encode_texts(self, embeddings: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return codes, (q, d) uint8, of text embeddings, (q, D) float32. Raises UsageError without a text tower."""
        return self.scalar.encode(self.head.transform_texts(embeddings))

    def decode(self, codes: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Return unit embeddings, (m, D) float16, of codes, (m, d) uint8. Raises UsageError without a decoder.

        The embedding of a row does not depend on the other rows.
        """
        return self.head.inverse_transform(self.scalar.decode(codes)).astype(np.float16)

    def _vectors(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        with np.errstate(over="ignore", invalid="ignore"):
            vectors = self.head.transform(embeddings)
            bad = int((~np.isfinite(vectors).all(axis=1)).sum())
        if bad:
            raise DataError(
                f"head {self.head.identity}: expected vectors of finite numbers, got NaN or infinity for {bad:,} of "
                f"{len(vectors):,} embeddings; use another head, or train this one again"
            )
        return vectors


def require_decoder(head: Head | None, spec: str | None) -> None:
    """Raise UsageError unless a head has a decoder. head: a fitted head, or None; spec: for the message."""
    if head is None or not head.decodes:
        raise UsageError(
            f"embeddings: without them, expected the file of a head with a decoder, got {spec}; train-head makes one"
        )


def unit_rows(rows: NDArray[Any]) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """Return rows scaled to unit length, (n, D) float16, and which rows are zero or not finite, (n,) bool."""
    unit, bad = np.empty(rows.shape, np.float16), np.empty(len(rows), np.bool_)
    buffer = np.empty((min(len(rows), _UNIT_ROWS), rows.shape[1]), np.float32)
    for start in range(0, len(rows), _UNIT_ROWS):
        at = slice(start, start + _UNIT_ROWS)
        wide = buffer[: len(rows) - start]
        wide[:] = rows[at]
        with np.errstate(over="ignore", invalid="ignore"):
            lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        bad[at] = ~np.isfinite(lengths) | (lengths == 0)
        wide[bad[at]] = 0
        lengths[bad[at]] = 1
        wide /= lengths[:, None]
        unit[at] = wide
    return unit, bad
