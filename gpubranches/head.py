"""Heads: embeddings to the d-dim vectors that become codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from gpubranches.arrays import check_array
from gpubranches.errors import CatalogFormatError, NotFittedError, UsageError
from gpubranches.space import digest


class Head(Protocol):
    """Maps embeddings, (n, D) float32, to vectors, (n, d) float32."""

    @property
    def identity(self) -> str:
        """Digest of what it is, for Space."""
        ...

    @property
    def d(self) -> int:
        """Code dims after `fit`."""
        ...

    @property
    def code_range(self) -> tuple[float, float] | None:
        """Range of its vectors that the codes cover; None: to be learned from a sample."""
        ...

    def fit(self, embeddings: NDArray[np.float32]) -> Self:
        """Learn from a sample, (n, D) float32."""
        ...

    def transform(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return vectors, (n, d) float32."""
        ...

    def to_bytes(self) -> bytes:
        """Return the content of head.safetensors."""
        ...


class PCAHead:
    """The d principal dims of the centred embeddings, scaled to unit length.

    d: wanted code dims; with fewer embedding dims or rows than d, the largest multiple of 4 that fits. After `fit`:
    mean_ (D,) float32; components_ (d, D) float32 with orthonormal rows, the largest entry of each positive.
    """

    kind = "pca"
    code_range = (-1.0, 1.0)

    def __init__(self, d: int = 32):
        self._wanted = d

    def fit(self, embeddings: NDArray[np.float32]) -> Self:
        """Learn from embeddings, (n, D) float32, D >= 4. Returns self."""
        check_array(embeddings, "embeddings", dtype=np.float32, shape=(None, None), finite=True)
        dims = embeddings.shape[1]
        if self._wanted % 4 or self._wanted < 4:
            raise UsageError(f"d: expected a multiple of 4, got {self._wanted}")
        if dims < 4 or len(embeddings) == 0:
            raise UsageError(f"embeddings: expected at least one row of 4 dims or more, got {embeddings.shape}")
        d = min(self._wanted, dims) // 4 * 4
        mean = embeddings.mean(axis=0, dtype=np.float64)
        centred = embeddings.astype(np.float64) - mean
        _, vectors = np.linalg.eigh(centred.T @ centred)
        components = vectors[:, ::-1][:, :d].T
        largest = np.abs(components).argmax(axis=1)
        components = components * np.sign(components[np.arange(d), largest])[:, None]
        self.mean_ = mean.astype(np.float32)
        self.components_ = np.ascontiguousarray(components, np.float32)
        return self

    def transform(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return unit vectors, (n, d) float32; an embedding at the mean gives zeros."""
        self._fitted()
        check_array(embeddings, "embeddings", dtype=np.float32, shape=(None, len(self.mean_)))
        projected = (embeddings - self.mean_) @ self.components_.T
        lengths = np.linalg.norm(projected, axis=1, keepdims=True)
        vectors: NDArray[np.float32] = projected / np.maximum(lengths, np.float32(1e-12))
        return vectors

    @property
    def d(self) -> int:
        """Code dims."""
        self._fitted()
        return len(self.components_)

    @property
    def identity(self) -> str:
        """Digest of mean and components."""
        self._fitted()
        return f"pca:{digest(self.mean_, self.components_)}"

    def to_bytes(self) -> bytes:
        """Return mean and components as safetensors."""
        self._fitted()
        content: bytes = save({"mean": self.mean_, "components": self.components_}, {"kind": self.kind})
        return content

    @classmethod
    def from_tensors(cls, tensors: dict[str, Any]) -> PCAHead:
        """Return the head of the tensors that `to_bytes` wrote."""
        head = cls(len(tensors["components"]))
        head.mean_, head.components_ = tensors["mean"], tensors["components"]
        return head

    def _fitted(self) -> None:
        if not hasattr(self, "components_"):
            raise NotFittedError("PCAHead: call fit before transform")


class IdentityHead:
    """The embeddings as they are: for embeddings of few dims, a multiple of 4 up to 1,024."""

    kind = "none"
    code_range = None

    def fit(self, embeddings: NDArray[np.float32]) -> Self:
        """Learn the number of dims from embeddings, (n, D) float32. Returns self."""
        check_array(embeddings, "embeddings", dtype=np.float32, shape=(None, None))
        if embeddings.shape[1] % 4 or not 4 <= embeddings.shape[1] <= 1024:
            raise UsageError(
                f"head none: expected dims of a multiple of 4 up to 1,024, got {embeddings.shape[1]}; use the pca head"
            )
        self.d_ = embeddings.shape[1]
        return self

    def transform(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the embeddings, (n, d) float32."""
        return check_array(embeddings, "embeddings", dtype=np.float32, shape=(None, self.d))

    @property
    def d(self) -> int:
        """Code dims."""
        if not hasattr(self, "d_"):
            raise NotFittedError("IdentityHead: call fit before transform")
        return int(self.d_)

    @property
    def identity(self) -> str:
        """Name with the number of dims."""
        return f"none:{self.d}"

    def to_bytes(self) -> bytes:
        """Return the number of dims as safetensors."""
        content: bytes = save({"d": np.array([self.d], np.int64)}, {"kind": self.kind})
        return content

    @classmethod
    def from_tensors(cls, tensors: dict[str, Any]) -> IdentityHead:
        """Return the head of the tensors that `to_bytes` wrote."""
        head = cls()
        head.d_ = int(tensors["d"][0])
        return head


_KINDS: dict[str, Any] = {"pca": PCAHead, "none": IdentityHead}


def load_head(path: Path) -> Head:
    """Read a head.safetensors. Raises CatalogFormatError if it is none or damaged."""
    try:
        with safe_open(path, "np") as file:
            kind = (file.metadata() or {}).get("kind", "")
        head: Head = _KINDS[kind].from_tensors(load(path.read_bytes()))
    except (OSError, SafetensorError, KeyError, ValueError, IndexError) as error:
        raise CatalogFormatError(
            f"{path}: expected a head ({', '.join(_KINDS)}) as safetensors, got a problem: {error}"
        ) from error
    return head


def open_head(spec: str, *, d: int = 32) -> tuple[Head, bool]:
    """Open a head by "pca", "none" or a file; return it and whether it is fitted already."""
    if spec == "pca":
        return PCAHead(d), False
    if spec == "none":
        return IdentityHead(), False
    if not Path(spec).is_file():
        raise UsageError(f"head: expected pca, none or a head's file, got {spec!r}")
    return load_head(Path(spec)), True
