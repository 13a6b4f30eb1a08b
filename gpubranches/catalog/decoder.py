"""Embeddings of a catalog that keeps none: decoded from the codes by the head that made them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpubranches.encoders.quantizers import ScalarQuantizer

if TYPE_CHECKING:
    from gpubranches.encoders.heads import Head


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
        from gpubranches.encoders.heads import load_head

        head = load_head(path)
        return cls(head, scalar) if head.decodes else None

    def __call__(self, codes: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Return unit embeddings, (m, D) float16, of codes, (m, d) uint8; of each the same, whatever is beside it."""
        return self.head.inverse_transform(self.scalar.decode(codes)).astype(np.float16)
