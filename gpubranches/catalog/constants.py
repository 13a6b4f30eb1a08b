"""The constants fitted once for a catalog: ranges of the codes, mean and rotation of the bits, mean of texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog.storage import replace_file
from gpubranches.errors import CatalogFormatError
from gpubranches.quantize import ScalarQuantizer, SignQuantizer


@dataclass(frozen=True)
class Constants:
    """Fitted quantizers and text mean; each may be absent."""

    signs: SignQuantizer | None
    scalar: ScalarQuantizer | None
    text_mean: NDArray[np.float32] | None

    def write(self, path: Path) -> None:
        """Write them as safetensors, atomically."""
        tensors: dict[str, NDArray[np.float32]] = {}
        if self.signs is not None:
            tensors |= {"mean": self.signs.mean_, "rotation": self.signs.rotation_}
        if self.scalar is not None:
            tensors |= {"low": self.scalar.low_, "high": self.scalar.high_}
        if self.text_mean is not None:
            tensors["text_mean"] = self.text_mean
        from safetensors.numpy import save

        replace_file(path, save({name: np.ascontiguousarray(value) for name, value in tensors.items()}))

    @classmethod
    def read(cls, path: Path) -> Constants:
        """Read them. Raises CatalogFormatError if the file is missing or damaged."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load(path.read_bytes())
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise CatalogFormatError(f"{path}: expected the catalog's constants as safetensors: {error}") from error
        signs = scalar = None
        if "rotation" in tensors:
            signs = SignQuantizer()
            signs.mean_, signs.rotation_ = tensors["mean"], tensors["rotation"]
        if "low" in tensors:
            scalar = ScalarQuantizer()
            scalar.low_, scalar.high_ = tensors["low"], tensors["high"]
        return cls(signs, scalar, tensors.get("text_mean"))
