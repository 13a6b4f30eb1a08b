"""The two quantizers: uint8 codes of vectors, and sign bits of embeddings with the linear score over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import check_array
from gpubranches.core.embedding_space import digest
from gpubranches.errors import NotFittedError, UsageError

MAX_BITS = 2048
QUANTILE = 0.001
"""The share of the sample that "quantile" leaves out at each end of the range of a dim."""
QUANTIZERS = ("uniform", "quantile")
"""Names of quantizers, see `scalar_quantizer`."""
_NARROWEST = np.float32(255) * np.finfo(np.float32).tiny
"""Dims with a smaller range count as constant: 255 divided by such a range may overflow."""


class ScalarQuantizer:
    """Quantizes each dim to uint8: code = clip(floor((x - low) * 255 / (high - low) + 1/2), 0, 255).

    low, high: range shared by all dims (-1 and 1 give the protocol's clip(127.5 x + 128)); None: learned by `fit`. The
    learned range goes from the minimum to the maximum of each dim, or, with a quantile q below 1/2, from its q- to its
    (1 - q)-quantile. low_, high_: (d,) float32 after `fit`. A constant dim gets code 0 everywhere.
    """

    def __init__(self, *, low: float | None = None, high: float | None = None, quantile: float | None = None):
        self.low = low
        self.high = high
        self.quantile = quantile

    def fit(self, vectors: NDArray[np.float32]) -> Self:
        """Learn the range of each dim from vectors, (n, d) float32, unless it is given. Returns self.

        If the two quantiles of a dim are equal, its range is from its minimum to its maximum.
        """
        check_array(vectors, "vectors", dtype=np.float32, shape=(None, None), finite=True)
        if self.quantile is not None and not (0 <= self.quantile < 0.5 and self.low is None and self.high is None):
            raise UsageError(
                f"quantile: expected 0 or more and less than 1/2, without low and high, got {self.quantile} with low "
                f"{self.low} and high {self.high}"
            )
        if len(vectors) == 0 and (self.low is None or self.high is None):
            raise UsageError("vectors: expected at least one row to learn the range of the codes from, got none")
        d = vectors.shape[1]
        low = vectors.min(axis=0) if self.low is None else np.full(d, self.low, np.float32)
        high = vectors.max(axis=0) if self.high is None else np.full(d, self.high, np.float32)
        if self.quantile is not None:
            ends = np.quantile(vectors, [self.quantile, 1 - self.quantile], axis=0).astype(np.float32)
            apart = ends[0] < ends[1]
            low, high = np.where(apart, ends[0], low), np.where(apart, ends[1], high)
        self.low_, self.high_ = low, high
        return self

    def encode(self, vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return codes, (n, d) uint8, of vectors, (n, d) float32; values outside the range are clipped to its ends."""
        span = self._span()
        check_array(vectors, "vectors", dtype=np.float32, shape=(None, len(span)), finite=True)
        factors = np.divide(np.float32(255), span, out=np.zeros_like(span), where=span >= _NARROWEST)
        levels = np.floor((vectors - self.low_) * factors + np.float32(0.5))
        codes: NDArray[np.uint8] = np.clip(levels, 0, 255).astype(np.uint8)
        return codes

    def decode(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the middle of each code's interval, (n, d) float32, for codes (n, d) uint8."""
        span = self._span()
        check_array(codes, "codes", dtype=np.uint8, shape=(None, len(span)))
        return (self.low_ + codes * (span / np.float32(255))).astype(np.float32)

    @property
    def identity(self) -> str:
        """Digest of the learned ranges."""
        self._span()
        return f"uint8:{digest(self.low_, self.high_)}"

    def _span(self) -> NDArray[np.float32]:
        if not hasattr(self, "low_"):
            raise NotFittedError("ScalarQuantizer: call fit before encode or decode")
        span: NDArray[np.float32] = self.high_ - self.low_
        return span


def require_dims(dims: int, what: str) -> None:
    """Raise UsageError for embeddings with more dims than a catalog can have; call it before reading them."""
    if dims > MAX_BITS:
        raise UsageError(f"embeddings: expected at most {MAX_BITS:,} dims, {what} has {dims:,}; reduce them first")


def require_quantizer(name: str) -> None:
    """Raise UsageError for a name that is not in `QUANTIZERS`."""
    if name not in QUANTIZERS:
        raise UsageError(f"quantizer: expected one of {', '.join(QUANTIZERS)}, got {name!r:.40}")


def scalar_quantizer(name: str, code_range: tuple[float, float] | None = None) -> ScalarQuantizer:
    """Return the unfitted quantizer of a name. Raises UsageError for an unknown name.

    "uniform": over code_range if it is given, else from the minimum to the maximum of each dim; "quantile": from the
    `QUANTILE`- to the (1 - `QUANTILE`)-quantile of each dim.
    """
    require_quantizer(name)
    if name == "quantile":
        return ScalarQuantizer(quantile=QUANTILE)
    low, high = code_range or (None, None)
    return ScalarQuantizer(low=low, high=high)


@dataclass(frozen=True)
class WeightPlanes:
    """Weights of a linear score, quantised to u in 0..15 for the sign bits: weight ~ step * (2u - 15).

    planes: (4, D/8) uint8, plane j holds bit j of every u, little-endian; total: sum of u; step: float;
    n_bits: D. `dot` of a row of bits is 4 sum_j 2^j popc(b & p_j) - 2 total - 15 (2 popc(b) - n_bits), an exact
    integer equal to sum_i (2u_i - 15) s_i with signs s = +-1; the score is f32(dot) * f32(scale).
    """

    planes: NDArray[np.uint8]
    total: int
    step: float
    n_bits: int

    def dots(self, bits: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Return the exact integer dots, (n,) int32, of bits, (n, D/8) uint8: the definition for all backends."""
        check_array(bits, "bits", dtype=np.uint8, shape=(None, self.planes.shape[1]))
        dots = np.full(len(bits), 15 * self.n_bits - 2 * self.total, np.int32)
        dots -= 30 * np.bitwise_count(bits).sum(axis=1, dtype=np.int32)
        for j in range(4):
            dots += (4 << j) * np.bitwise_count(bits & self.planes[j]).sum(axis=1, dtype=np.int32)
        return dots

    def scores(self, bits: NDArray[np.uint8], scales: NDArray[np.float16]) -> NDArray[np.float32]:
        """Return f32(dot) * f32(scale), (n,) float32, in units of `step`."""
        return self.dots(bits).astype(np.float32) * scales.astype(np.float32)


class SignQuantizer:
    """Signs of centred, rotated embeddings (RaBitQ; Gao and Long, SIGMOD 2024) and weights to score them.

    For r = R (x - mean): bit i = r_i > 0, scale = |r|^2 / |r|_1, so that scale * sum_i s_i v_i estimates <r, v>.
    random_state: seed of the rotation. After `fit`: mean_ (D,) float32; rotation_ (P, D) float32 with orthonormal
    columns, P = D rounded up to a multiple of 32, at most 2,048.
    """

    def __init__(self, *, random_state: int = 0):
        self.random_state = random_state

    def fit(self, embeddings: NDArray[np.float32]) -> Self:
        """Learn the mean of embeddings, (n, D) float32, and draw the rotation. Returns self."""
        check_array(embeddings, "embeddings", dtype=np.float32, shape=(None, None), finite=True)
        dims = embeddings.shape[1]
        n_bits = -(-dims // 32) * 32
        if len(embeddings) == 0 or dims == 0 or n_bits > MAX_BITS:
            raise UsageError(f"embeddings: expected at least one row and 1..{MAX_BITS} dims, got {embeddings.shape}")
        self.mean_ = embeddings.mean(axis=0, dtype=np.float64).astype(np.float32)
        gauss = np.random.default_rng(self.random_state).standard_normal((n_bits, dims))
        q, r = np.linalg.qr(gauss)
        self.rotation_ = np.ascontiguousarray(q * np.sign(np.diag(r)), np.float32)
        return self

    def encode(self, embeddings: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """Return bits, (n, P/8) uint8 little-endian, and scales, (n,) float16, of embeddings, (n, D) float32."""
        self._fitted()
        check_array(embeddings, "embeddings", dtype=np.float32, shape=(None, len(self.mean_)), finite=True)
        rotated = (embeddings - self.mean_) @ self.rotation_.T
        bits = np.packbits(rotated > 0, axis=1, bitorder="little")
        squared = np.einsum("ij,ij->i", rotated, rotated)
        absolute = np.abs(rotated, out=rotated).sum(axis=1)
        scales = np.divide(squared, absolute, out=np.zeros_like(absolute), where=absolute > 0)
        largest = np.float32(np.finfo(np.float16).max)
        return bits, np.minimum(scales, largest).astype(np.float16)

    def planes(self, weights: NDArray[np.float32]) -> WeightPlanes:
        """Quantize the weights, (D,) float32, of a linear score over (x - mean) to 4 bits.

        Of 32 clipping ranges, the one with the least squared error gives the step.
        """
        self._fitted()
        check_array(weights, "weights", dtype=np.float32, shape=(len(self.mean_),), finite=True)
        rotated = self._wide_rotation() @ weights.astype(np.float64)
        largest = float(np.abs(rotated).max()) or 1.0
        steps = largest / 15 * np.linspace(0.25, 1.0, 32)
        # In units of half a step the levels are whole numbers. The work is done in float32 and in place, because every
        # query does it.
        halves = rotated.astype(np.float32) / (2 * steps[:, None]).astype(np.float32)
        levels = np.rint(halves + np.float32(7.5))
        np.clip(levels, 0, 15, out=levels)
        halves += np.float32(7.5)
        halves -= levels
        best = int((steps**2 * np.einsum("ij,ij->i", halves, halves)).argmin())
        u = levels[best].astype(np.uint8)
        bits = (u >> np.arange(4, dtype=np.uint8)[:, None]) & np.uint8(1)
        return WeightPlanes(np.packbits(bits, axis=1, bitorder="little"), int(u.sum()), float(steps[best]), len(u))

    def _wide_rotation(self) -> NDArray[np.float64]:
        """Return the rotation in float64; it is converted once."""
        kept = getattr(self, "_wide", None)
        if kept is None or kept[0] is not self.rotation_:
            kept = self._wide = (self.rotation_, self.rotation_.astype(np.float64))
        wide: NDArray[np.float64] = kept[1]
        return wide

    @property
    def n_bits(self) -> int:
        """Bits per item, P."""
        self._fitted()
        return len(self.rotation_)

    @property
    def identity(self) -> str:
        """Digest of mean and rotation."""
        self._fitted()
        return f"signs:{digest(self.mean_, self.rotation_)}"

    def _fitted(self) -> None:
        if not hasattr(self, "rotation_"):
            raise NotFittedError("SignQuantizer: call fit before encode or planes")


@dataclass(frozen=True)
class CodeWeights:
    """Weights of a linear score over codes, quantised to int8: weight ~ step * w. Exact int32 dots on every backend."""

    weights: NDArray[np.int8]
    step: float

    @classmethod
    def quantise(cls, weights: NDArray[np.float32]) -> CodeWeights:
        """Quantise weights, (d,) float32, to -127..127."""
        check_array(weights, "weights", dtype=np.float32, shape=(None,), finite=True)
        step = (float(np.abs(weights).max()) if len(weights) else 0.0) / 127 or 1.0
        return cls(np.rint(weights.astype(np.float64) / step).astype(np.int8), step)

    def scores(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the integer dots as float32, (n,), of codes, (n, d) uint8, in units of `step`."""
        check_array(codes, "codes", dtype=np.uint8, shape=(None, len(self.weights)))
        return (codes.astype(np.int32) @ self.weights.astype(np.int32)).astype(np.float32)
