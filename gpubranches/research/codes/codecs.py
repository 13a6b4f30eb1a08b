"""Ways to keep an item in few bytes and search: the project's own. See `faiss_codecs` for those of faiss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from gpubranches.encoders.heads import Head, PCAHead
from gpubranches.encoders.quantizers import QUANTIZERS, ScalarQuantizer, SignQuantizer, scalar_quantizer
from gpubranches.errors import UsageError
from gpubranches.research.codes.ground import Rows, unit
from gpubranches.research.codes.measures import best_rows

BYTES = 32
"""Bytes an item that codecs are compared at."""

Ids = NDArray[np.int64]

_WORDS = {"uniform": "uint8", "quantile": "uint8 quantile"}


class Codec(Protocol):
    """A fitted way to encode items and to search among their codes. bytes: an item's."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def bytes(self) -> int: ...  # noqa: D102
    @property
    def description(self) -> str: ...  # noqa: D102

    def encode(self, rows: Rows) -> NDArray[Any]:
        """Return what is kept of items, (m, w): w times the size of the dtype is `bytes`."""
        ...

    def search(self, codes: NDArray[Any], ids: Ids, queries: Rows, k: int) -> NDArray[np.int64]:
        """Return the k best rows of codes for each query, (q, k) int64, best first; ids: of the rows."""
        ...


class Method(Protocol):
    """What is fitted once and gives one codec or several."""

    @property
    def name(self) -> str: ...  # noqa: D102

    def fit(self, sample: Rows) -> Self:
        """Learn from items. Returns self."""
        ...

    def codecs(self) -> tuple[Codec, ...]:
        """Return the codecs after `fit`."""
        ...


def stored(codec: Codec, rows: Rows) -> NDArray[Any]:
    """Return a codec's codes of items. Raises UsageError unless each item takes the bytes that the codec states."""
    codes = codec.encode(rows)
    taken = codes.dtype.itemsize * codes.shape[1]
    if taken != codec.bytes:
        raise UsageError(
            f"codec {codec.name}: expected {codec.bytes} bytes an item, got {taken}; correct what it states"
        )
    return codes


class HeadMethod:
    """A head: its vectors, and its codes under every quantizer. Searched symmetrically, as the product does.

    head: fitted, or to be fitted where `fitted` is False.
    """

    def __init__(self, name: str, head: Head, *, fitted: bool = True):
        self.name = name
        self.head = head
        self.fitted = fitted

    def fit(self, sample: Rows) -> Self:
        """Fit the head if it is not, and the ranges of its codes. Raises UsageError for a head of other dims."""
        if not self.fitted:
            self.head.fit(sample.raw)
        vectors = vectors_of(self.head, sample)
        if not np.isfinite(vectors).all():
            raise UsageError(f"head {self.name}: expected finite vectors, got NaN or infinity; train it again")
        self.mean_ = sample.raw.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.quantizers_ = {
            _WORDS[name]: scalar_quantizer(name, self.head.code_range).fit(vectors) for name in QUANTIZERS
        }
        return self

    def codecs(self) -> tuple[Codec, ...]:
        """Return one codec a quantizer, the codes decoded if the head can, the vectors without the 8-bit step."""
        named = {f"{self.name} {word}": quantizer for word, quantizer in self.quantizers_.items()}
        coded: list[Codec] = [HeadCodes(name, self.head, quantizer) for name, quantizer in named.items()]
        if self.head.decodes:
            usual = self.quantizers_[_WORDS[self.head.default_quantizer]]
            coded.append(HeadDecoded(f"{self.name} decoded", self.head, usual, self.mean_))
        return (*coded, HeadVectors(f"{self.name} float", self.head))


@dataclass(frozen=True)
class HeadCodes:
    """uint8 codes of a head's vectors; a query is encoded, too, and squared distances are whole numbers."""

    name: str
    head: Head
    quantizer: ScalarQuantizer

    @property
    def bytes(self) -> int:
        """One a code dim."""
        return self.head.d

    @property
    def description(self) -> str:
        """What is kept and how it is searched."""
        return f"{self.head.d} x uint8 of the head, queries encoded, too"

    def encode(self, rows: Rows) -> NDArray[np.uint8]:
        """Return codes, (m, d) uint8."""
        return self.quantizer.encode(vectors_of(self.head, rows))

    def search(self, codes: NDArray[Any], ids: Ids, queries: Rows, k: int) -> NDArray[np.int64]:
        """Return the k nearest; exact, for float64 holds the sums."""
        return _nearest(codes.astype(np.float64), self.encode(queries).astype(np.float64), ids, k)


@dataclass(frozen=True)
class HeadDecoded(HeadCodes):
    """The same codes, decoded to embeddings; a query is an embedding as it stands.

    mean: (D,) float32, of the embeddings.
    """

    mean: NDArray[np.float32]

    @property
    def description(self) -> str:
        """What is kept and how it is searched."""
        return f"{self.head.d} x uint8 of the head, decoded to {self.head.D} dims, queries as they are"

    def search(self, codes: NDArray[Any], ids: Ids, queries: Rows, k: int) -> NDArray[np.int64]:
        """Return those of the largest cosines with what is decoded."""
        base = unit(self.head.inverse_transform(self.quantizer.decode(codes)) - self.mean)
        return best_rows(lambda part: queries.centred[part] @ base.T, len(queries), ids, k)


@dataclass(frozen=True)
class HeadVectors:
    """A head's vectors without the 8-bit step."""

    name: str
    head: Head

    @property
    def bytes(self) -> int:
        """Four a code dim."""
        return 4 * self.head.d

    @property
    def description(self) -> str:
        """What is kept and how it is searched."""
        return f"{self.head.d} x float32 of the head, without the 8-bit step"

    def encode(self, rows: Rows) -> NDArray[np.float32]:
        """Return vectors, (m, d) float32."""
        return vectors_of(self.head, rows)

    def search(self, codes: NDArray[Any], ids: Ids, queries: Rows, k: int) -> NDArray[np.int64]:
        """Return the k nearest."""
        return _nearest(codes, self.encode(queries), ids, k)


class SignsMethod:
    """One bit of each of 256 rotated principal dims, ranked by 4-bit weights of the query; no scale is kept.

    random_state: seed of the rotation.
    """

    name = "signs"

    def __init__(self, *, random_state: int = 0):
        self.random_state = random_state

    def fit(self, sample: Rows) -> Self:
        """Learn the principal dims, their mean and the rotation from centred embeddings of 256 dims or more."""
        self.components_ = PCAHead(8 * BYTES).fit(sample.centred).components_
        self.signs_ = SignQuantizer(random_state=self.random_state).fit(sample.centred @ self.components_.T)
        return self

    def codecs(self) -> tuple[Codec, ...]:
        """Return the one codec."""
        return (PrincipalSigns("signs", self.components_, self.signs_),)


@dataclass(frozen=True)
class PrincipalSigns:
    """components: (P, D) float32; signs: fitted to the P dims."""

    name: str
    components: NDArray[np.float32]
    signs: SignQuantizer

    @property
    def bytes(self) -> int:
        """One bit of each of 256 dims."""
        return BYTES

    @property
    def description(self) -> str:
        """What is kept and how it is searched."""
        return f"{self.signs.n_bits} signs of rotated principal dims, queries as 4-bit weights"

    def encode(self, rows: Rows) -> NDArray[np.uint8]:
        """Return bits, (m, P/8) uint8."""
        return self.signs.encode(rows.centred @ self.components.T)[0]

    def search(self, codes: NDArray[Any], ids: Ids, queries: Rows, k: int) -> NDArray[np.int64]:
        """Return those of the largest dots."""
        weights = queries.centred @ self.components.T

        def keys(part: slice) -> NDArray[Any]:
            return np.stack([self.signs.planes(weight).dots(codes) for weight in weights[part]])

        return best_rows(keys, len(queries), ids, k)


@dataclass(frozen=True)
class CatalogBits:
    """The catalog's own tier of bits and scales, and its own method: nothing is left to fit."""

    signs: SignQuantizer
    name: str = "catalog bits"

    @property
    def bytes(self) -> int:
        """One bit a dim and two bytes of scale."""
        return self.signs.n_bits // 8 + 2

    @property
    def description(self) -> str:
        """What is kept and how it is searched."""
        return f"the catalog's {self.signs.n_bits} signs of rotated dims and a scale, queries as 4-bit weights"

    def fit(self, sample: Rows) -> Self:
        """Return self: the catalog's constants stand."""
        return self

    def codecs(self) -> tuple[Codec, ...]:
        """Return the one codec."""
        return (self,)

    def encode(self, rows: Rows) -> NDArray[np.uint8]:
        """Return bits and scale in a row, (m, P/8 + 2) uint8."""
        bits, scales = self.signs.encode(rows.raw)
        return np.hstack([bits, scales[:, None].view(np.uint8)])

    def search(self, codes: NDArray[Any], ids: Ids, queries: Rows, k: int) -> NDArray[np.int64]:
        """Return those of the best scores."""
        bits = np.ascontiguousarray(codes[:, :-2])
        scales = np.ascontiguousarray(codes[:, -2:]).view(np.float16)[:, 0]

        def keys(part: slice) -> NDArray[Any]:
            return np.stack([self.signs.planes(row).scores(bits, scales) for row in queries.centred[part]])

        return best_rows(keys, len(queries), ids, k)


@dataclass(frozen=True)
class FullEmbeddings:
    """The centred embeddings, whose cosine is the truth."""

    dims: int
    name: str = "embeddings"

    @property
    def bytes(self) -> int:
        """Four a dim."""
        return 4 * self.dims

    @property
    def description(self) -> str:
        """What is kept and how it is searched."""
        return f"{self.dims} x float32, centred: the truth"

    def fit(self, sample: Rows) -> Self:
        """Return self: there is nothing to learn."""
        return self

    def codecs(self) -> tuple[Codec, ...]:
        """Return the one codec."""
        return (self,)

    def encode(self, rows: Rows) -> NDArray[np.float32]:
        """Return the centred embeddings, (m, D) float32."""
        return rows.centred

    def search(self, codes: NDArray[Any], ids: Ids, queries: Rows, k: int) -> NDArray[np.int64]:
        """Return those of the largest cosines."""
        return best_rows(lambda part: queries.centred[part] @ codes.T, len(queries), ids, k)


def vectors_of(head: Head, rows: Rows) -> NDArray[np.float32]:
    """Return a head's vectors, (m, d) float32: texts by its tower for them, else moved to where images lie."""
    if rows.texts and head.has_text_tower:
        return head.transform_texts(rows.raw)
    return head.transform(rows.moved)


def _nearest(base: NDArray[Any], queries: NDArray[Any], ids: Ids, k: int) -> NDArray[np.int64]:
    """Return the rows of base, (n, d), nearest to each of queries, (q, d) of the same dtype."""
    squared = np.einsum("ij,ij->i", base, base)
    return best_rows(lambda part: 2 * (queries[part] @ base.T) - squared, len(queries), ids, k)
