"""The identity of the spaces a catalog lives in, so that what does not belong together is refused."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from gpubranches.errors import SpaceMismatchError


def digest(*parts: NDArray[np.generic] | bytes | str) -> str:
    """Return a short hexadecimal SHA-256 digest (16 characters) of arrays (dtype, shape, bytes), bytes and text."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            sha.update(f"{part.dtype.str}{part.shape}".encode())
            sha.update(np.ascontiguousarray(part).tobytes())
        else:
            sha.update(part.encode() if isinstance(part, str) else part)
    return sha.hexdigest()[:16]


@dataclass(frozen=True)
class EmbeddingSpace:
    """Identities of what made the data; an empty string means unknown or absent.

    embedder: the tower (model, weights); head: embeddings to vectors; quantizer: vectors to codes;
    means: the constants of the sign bits (mean and rotation) and the text mean.
    """

    embedder: str = ""
    head: str = ""
    quantizer: str = ""
    means: str = ""

    def require(self, other: EmbeddingSpace) -> None:
        """Raise SpaceMismatchError unless every part known on both sides is the same."""
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if mine and theirs and mine != theirs:
                raise SpaceMismatchError(
                    f"the catalog's {field.name} is {mine!r}, the query's is {theirs!r}; "
                    f"use the {field.name} the catalog was made with, or ingest the catalog again with the other"
                )

    def to_json(self) -> dict[str, str]:
        """Return the four identities as a dict."""
        return asdict(self)
