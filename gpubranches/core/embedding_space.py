"""The identities of the models and statistics that made the data of a catalog; data of different spaces are refused."""

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
    """The identities of the models and statistics that made the data; an empty string means unknown or absent.

    embedder: the model with its weights, from images and texts to embeddings; head: from embeddings to vectors;
    quantizer: from vectors to codes; means: the mean and rotation of the sign bits.
    """

    embedder: str = ""
    head: str = ""
    quantizer: str = ""
    means: str = ""

    def require(self, other: EmbeddingSpace) -> None:
        """Raise SpaceMismatchError if an identity that is known on both sides differs."""
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
