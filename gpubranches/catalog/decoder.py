"""Embeddings of a catalog that keeps none: decoded from the codes by the head that made them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpubranches.quantize import ScalarQuantizer

if TYPE_CHECKING:
    from gpubranches.head import Head

BLOCK_ROWS = 256
"""Rows that are decoded at a time, always: the last bit of a matrix product may depend on how many there are."""


@dataclass(frozen=True)
class Decoder:
    """A head that decodes, and the quantizer of its vectors."""

    head: Head
    scalar: ScalarQuantizer

    @classmethod
    def of(cls, path: Path | None, scalar: ScalarQuantizer | None) -> Decoder | None:
        """Return the decoder of a head's file; None without a file, or if that head does not decode."""
        if path is None or scalar is None:
            return None
        from gpubranches.head import load_head

        head = load_head(path)
        return cls(head, scalar) if head.decodes else None

    def __call__(self, codes: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Return unit embeddings, (m, D) float16, of codes, (m, d) uint8; of each the same, whatever is beside it."""
        out = np.empty((len(codes), self.head.D), np.float16)
        block = np.zeros((BLOCK_ROWS, codes.shape[1]), np.uint8)
        for start in range(0, len(codes), BLOCK_ROWS):
            own = codes[start : start + BLOCK_ROWS]
            block[: len(own)] = own
            out[start : start + BLOCK_ROWS] = self.head.inverse_transform(self.scalar.decode(block))[: len(own)]
        return out
