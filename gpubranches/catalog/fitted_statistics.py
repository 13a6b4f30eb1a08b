"""Statistics that are fitted once for a catalog: ranges of the codes, mean and rotation of the bits, mean of texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog.storage import RESTORE
from gpubranches.encoders.quantizers import ScalarQuantizer, SignQuantizer
from gpubranches.errors import CatalogFormatError


@dataclass(frozen=True)
class FittedStatistics:
    """Fitted quantizers and text mean; each may be absent."""

    signs: SignQuantizer | None
    scalar: ScalarQuantizer | None
    text_mean: NDArray[np.float32] | None

    def to_bytes(self) -> bytes:
        """Return the content of constants.safetensors."""
        tensors: dict[str, NDArray[np.float32]] = {}
        if self.signs is not None:
            tensors |= {"mean": self.signs.mean_, "rotation": self.signs.rotation_}
        if self.scalar is not None:
            tensors |= {"low": self.scalar.low_, "high": self.scalar.high_}
        if self.text_mean is not None:
            tensors["text_mean"] = self.text_mean
        from safetensors.numpy import save

        return bytes(save({name: np.ascontiguousarray(value) for name, value in tensors.items()}))

    @classmethod
    def from_bytes(cls, path: Path, content: bytes, *, d: int, D: int, n_bits: int) -> FittedStatistics:
        """Return the statistics in a file. Raises CatalogFormatError if the file is damaged or has other dims."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        shapes = {"mean": (D,), "rotation": (n_bits, D), "low": (d,), "high": (d,), "text_mean": (D,)}
        try:
            tensors = load(content)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise CatalogFormatError(f"{path}: expected the catalog's constants as safetensors: {error}") from error
        for name, array in tensors.items():
            if array.dtype != np.float32 or array.shape != shapes.get(name):
                raise CatalogFormatError(
                    f"{path}: {name}: expected float32 of shape {shapes.get(name)}, got {array.dtype} of "
                    f"{array.shape}; {RESTORE}"
                )
        if ("mean" in tensors, "rotation" in tensors, "low" in tensors) != (D > 0, D > 0, "high" in tensors):
            raise CatalogFormatError(f"{path}: expected constants of {D} dims, got {sorted(tensors)}; {RESTORE}")
        signs = scalar = None
        if "rotation" in tensors:
            signs = SignQuantizer()
            signs.mean_, signs.rotation_ = tensors["mean"], tensors["rotation"]
        if "low" in tensors:
            scalar = ScalarQuantizer()
            scalar.low_, scalar.high_ = tensors["low"], tensors["high"]
        return cls(signs, scalar, tensors.get("text_mean"))
