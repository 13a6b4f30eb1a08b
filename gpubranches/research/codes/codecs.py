"""The project's own codecs, which keep an item in few bytes and search. `faiss_codecs` has those of faiss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import unit
from gpubranches.encoders.heads import Head, PCAHead
from gpubranches.encoders.quantizers import QUANTIZERS, ScalarQuantizer, SignQuantizer, scalar_quantizer
from gpubranches.errors import UsageError
from gpubranches.research.codes.measures import best_rows
from gpubranches.research.codes.search_task import Rows

BYTES = 32
"""Bytes an item that codecs are compared at."""

Ids = NDArray[np.int64]

_WORDS = {"uniform": "uint8", "quantile": "uint8 quantile"}


@dataclass(frozen=True)
class Codec:
    """A fitted way to encode items and to search among their codes.

    bytes: of an item; description: what is stored, and how it is searched. encode: returns the stored form of m items,
    (m, w), where w times the size of the dtype is `bytes`. search: called with codes (m, w), their ids (m,), q queries
    and k; returns the k best rows of codes for each query, (q, k) int64, best first.
    """

    name: str
    bytes: int
    description: str
    encode: Callable[[Rows], NDArray[Any]]
    search: Callable[[NDArray[Any], Ids, Rows, int], NDArray[np.int64]]


class Method(Protocol):
    """A method that is fitted once and gives one or several codecs."""

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

    head: fitted, or to be fitted where `fitted` is False. After `fit`: mean_ (D,) float32, of the embeddings;
    quantizers_: by the words that name their codes.
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
        """Return codecs: one per quantizer, decoded codes if there is a decoder, and vectors without the 8-bit step."""
        coded = [self._by_codes(word, quantizer) for word, quantizer in self.quantizers_.items()]
        return (*coded, *([self._by_decoding()] if self.head.decodes else []), self._by_vectors())

    def _by_codes(self, word: str, quantizer: ScalarQuantizer) -> Codec:
        """Store uint8 codes; a query is encoded, too, and squared distances are whole numbers, exact in float64."""

        def encode(rows: Rows) -> NDArray[np.uint8]:
            return quantizer.encode(vectors_of(self.head, rows))

        def search(codes: NDArray[Any], ids: Ids, queries: Rows, k: int) -> NDArray[np.int64]:
            return _nearest(codes.astype(np.float64), encode(queries).astype(np.float64), ids, k)

        description = f"{self.head.d} x uint8 of the head, queries encoded, too"
        return Codec(f"{self.name} {word}", self.head.d, description, encode, search)

    def _by_decoding(self) -> Codec:
        """Store uint8 codes, and compare their decoded vectors with unchanged queries by the cosine."""
        quantizer = self.quantizers_[_WORDS[self.head.default_quantizer]]

        def encode(rows: Rows) -> NDArray[np.uint8]:
            return quantizer.encode(vectors_of(self.head, rows))

        def search(codes: NDArray[Any], ids: Ids, queries: Rows, k: int) -> NDArray[np.int64]:
            base = unit(self.head.inverse_transform(quantizer.decode(codes)) - self.mean_)
            return best_rows(lambda part: queries.centred[part] @ base.T, len(queries), ids, k)

        description = f"{self.head.d} x uint8 of the head, decoded to {self.head.D} dims, queries as they are"
        return Codec(f"{self.name} decoded", self.head.d, description, encode, search)

    def _by_vectors(self) -> Codec:
        """Store the vectors as float32."""

        def encode(rows: Rows) -> NDArray[np.float32]:
            return vectors_of(self.head, rows)

        def search(codes: NDArray[Any], ids: Ids, queries: Rows, k: int) -> NDArray[np.int64]:
            return _nearest(codes, encode(queries), ids, k)

        description = f"{self.head.d} x float32 of the head, without the 8-bit step"
        return Codec(f"{self.name} float", 4 * self.head.d, description, encode, search)


class SignsMethod:
    """One bit of each of 256 rotated principal dims, ranked by 4-bit weights of the query; no scale is kept.

    random_state: seed of the rotation. After `fit`: components_ (256, D) float32; signs_: fitted to the 256 dims.
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

        def encode(rows: Rows) -> NDArray[np.uint8]:
            return self.signs_.encode(rows.centred @ self.components_.T)[0]

        def search(codes: NDArray[Any], ids: Ids, queries: Rows, k: int) -> NDArray[np.int64]:
            weights = queries.centred @ self.components_.T

            def keys(part: slice) -> NDArray[Any]:
                return np.stack([self.signs_.planes(weight).dots(codes) for weight in weights[part]])

            return best_rows(keys, len(queries), ids, k)

        description = f"{self.signs_.n_bits} signs of rotated principal dims, queries as 4-bit weights"
        return (Codec(self.name, BYTES, description, encode, search),)


@dataclass(frozen=True)
class CatalogBits:
    """The bits of the catalog, one per dim, and two bytes of scale, ranked as the product does; nothing is fitted."""

    signs: SignQuantizer
    name: str = "catalog bits"

    def fit(self, sample: Rows) -> Self:
        """Return self, because the constants are those of the catalog."""
        return self

    def codecs(self) -> tuple[Codec, ...]:
        """Return the only codec, whose codes contain bits and scale in one row."""

        def encode(rows: Rows) -> NDArray[np.uint8]:
            bits, scales = self.signs.encode(rows.raw)
            return np.hstack([bits, scales[:, None].view(np.uint8)])

        def search(codes: NDArray[Any], ids: Ids, queries: Rows, k: int) -> NDArray[np.int64]:
            bits = np.ascontiguousarray(codes[:, :-2])
            scales = np.ascontiguousarray(codes[:, -2:]).view(np.float16)[:, 0]

            def keys(part: slice) -> NDArray[Any]:
                return np.stack([self.signs.planes(row).scores(bits, scales) for row in queries.centred[part]])

            return best_rows(keys, len(queries), ids, k)

        n_bits = self.signs.n_bits
        description = f"the catalog's {n_bits} signs of rotated dims and a scale, queries as 4-bit weights"
        return (Codec(self.name, n_bits // 8 + 2, description, encode, search),)


@dataclass(frozen=True)
class FullEmbeddings:
    """The centred embeddings, whose cosine is the truth; nothing is fitted. dims: of the embeddings."""

    dims: int
    name: str = "embeddings"

    def fit(self, sample: Rows) -> Self:
        """Return self: there is nothing to learn."""
        return self

    def codecs(self) -> tuple[Codec, ...]:
        """Return the only codec."""

        def search(codes: NDArray[Any], ids: Ids, queries: Rows, k: int) -> NDArray[np.int64]:
            return best_rows(lambda part: queries.centred[part] @ codes.T, len(queries), ids, k)

        description = f"{self.dims} x float32, centred: the truth"
        return (Codec(self.name, 4 * self.dims, description, lambda rows: rows.centred, search),)


def vectors_of(head: Head, rows: Rows) -> NDArray[np.float32]:
    """Return a head's vectors, (m, d) float32: texts by its text tower, or else moved into the region of images."""
    if rows.texts and head.has_text_tower:
        return head.transform_texts(rows.raw)
    return head.transform(rows.moved)


def _nearest(base: NDArray[Any], queries: NDArray[Any], ids: Ids, k: int) -> NDArray[np.int64]:
    """Return the rows of base, (n, d), nearest to each of queries, (q, d) of the same dtype."""
    squared = np.einsum("ij,ij->i", base, base)
    return best_rows(lambda part: 2 * (queries[part] @ base.T) - squared, len(queries), ids, k)
