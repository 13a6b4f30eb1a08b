"""Synthetic catalogs on disk, of any size with bounded memory: clusters in groups on a sphere, from a seed.

There are 1,000 clusters in 100 groups of 10 on the unit sphere of d dims. Their sizes follow a power law, so a few
clusters have many of the items, and most are small. Codes are made by the project's ScalarQuantizer. Sign bits without
embeddings are random bytes, because the speed of a scan does not depend on their values. A catalog that needs no disk,
and can be made on a card, is `gpubranches.research.speed.synthetic`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import SEGMENT_ROWS, Catalog
from gpubranches.core.embedding_space import EmbeddingSpace
from gpubranches.encoders.quantizers import ScalarQuantizer, SignQuantizer

GROUPS = 100
CLUSTERS = 10
_BLOCK = 1 << 17
_GROUP_SPREAD = 0.6
_POINT_SPREAD = 0.7


@dataclass
class Clusters:
    """The mixture: centres (1000, d) float32 of unit length and shares (1000,) that sum to 1."""

    d: int = 32
    seed: int = 0
    centres: NDArray[np.float32] = field(init=False)
    shares: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng([self.seed, 0])
        groups = _unit(rng.standard_normal((GROUPS, 1, self.d)))
        offsets = _GROUP_SPREAD * _unit(rng.standard_normal((GROUPS, CLUSTERS, self.d)))
        self.centres = _unit((groups + offsets).reshape(-1, self.d)).astype(np.float32)
        weights = 1.0 / np.arange(10, 10 + len(self.centres))
        self.shares = rng.permutation(weights / weights.sum())

    @cached_property
    def quantizer(self) -> ScalarQuantizer:
        """The quantizer of the codes, fitted to the first block."""
        return ScalarQuantizer().fit(self.vectors(0)[0])

    def vectors(self, block: int, rows: int = _BLOCK) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the vectors of one block, (rows, d) float32 of unit length, and their clusters, (rows,) int64."""
        rng = np.random.default_rng([self.seed, 1, block])
        owner = rng.choice(len(self.centres), rows, p=self.shares)
        noise = rng.standard_normal((rows, self.d), np.float32) * np.float32(_POINT_SPREAD / np.sqrt(self.d))
        return _unit(self.centres[owner] + noise), owner

    def codes(self, n: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        """Yield codes, (m, d) uint8, and clusters, (m,) int64, of n items, a segment's rows at a time."""
        per_segment = SEGMENT_ROWS // _BLOCK
        for first in range(0, -(-n // _BLOCK), per_segment):
            stop = min(n, (first + per_segment) * _BLOCK)
            blocks = [self.vectors(b) for b in range(first, -(-stop // _BLOCK))]
            rows = stop - first * _BLOCK
            yield (
                np.concatenate([self.quantizer.encode(vectors) for vectors, _ in blocks])[:rows],
                np.concatenate([owner for _, owner in blocks])[:rows],
            )


def write_catalog(path: Path, clusters: Clusters, n: int, *, D: int = 0) -> NDArray[np.int16]:
    """Write a catalog of n items, with D also random sign bits. Return the cluster of each id, (n,) int16."""
    signs = None
    if D:
        signs = SignQuantizer().fit(np.random.default_rng(clusters.seed).standard_normal((64, D)).astype(np.float32))
    catalog = Catalog.create(path, space=EmbeddingSpace(), d=clusters.d, signs=signs, scalar=clusters.quantizer)
    owners = []
    for index, (codes, owner) in enumerate(clusters.codes(n)):
        ids = np.arange(len(codes)) + index * SEGMENT_ROWS
        bits = scales = None
        if signs is not None:
            rng = np.random.default_rng([clusters.seed, 2, index])
            bits = rng.integers(0, 256, (len(codes), signs.n_bits // 8), np.uint8)
            scales = rng.uniform(0.03, 0.05, len(codes)).astype(np.float16)
        catalog.append(codes, ids=ids, bits=bits, scales=scales)
        owners.append(owner.astype(np.int16))
    return np.concatenate([np.zeros(0, np.int16), *owners])


def write_embedded_catalog(path: Path, clusters: Clusters, n: int) -> NDArray[np.int16]:
    """Write a catalog of all three tiers: embeddings of clusters.d dims, their bits, and 32 principal dims as codes.

    Return the cluster of each id, (n,) int16. Segments are of 131,072 rows, so memory stays bounded.
    """
    from gpubranches.encoders.heads import PCAHead  # needs safetensors, which may be missing on a machine with a card

    sample, _ = clusters.vectors(0, 20_000)
    signs, head = SignQuantizer().fit(sample), PCAHead(32).fit(sample)
    scalar = ScalarQuantizer().fit(head.transform(sample))
    catalog = Catalog.create(path, space=EmbeddingSpace(), d=32, signs=signs, scalar=scalar, head=head.to_bytes())
    owners = []
    for start in range(0, n, _BLOCK):
        vectors, owner = clusters.vectors(start // _BLOCK, min(_BLOCK, n - start))
        stored = vectors.astype(np.float16)
        bits, scales = signs.encode(vectors)
        codes = scalar.encode(head.transform(vectors))
        ids = np.arange(start, start + len(vectors))
        catalog.append(codes, ids=ids, bits=bits, scales=scales, embeddings=stored.__getitem__)
        owners.append(owner.astype(np.int16))
    return np.concatenate([np.zeros(0, np.int16), *owners])


def _unit(x: NDArray[np.floating]) -> NDArray[np.floating]:
    rows: NDArray[np.floating] = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return rows
