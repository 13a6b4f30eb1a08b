"""Catalogs beside the same rows as plain arrays, and what a backend must answer over them.

Needs NumPy and pytest alone. Where safetensors is missing, as on a machine with a card and little else, catalogs keep
their constants in NumPy's own format here.
"""

import importlib.util
import io

import numpy as np

from gpubranches import Box, Boxes, Catalog
from gpubranches.catalog.codec import Codec
from gpubranches.catalog.fitted_statistics import FittedStatistics
from gpubranches.core.bitmaps import pack_bitmap
from gpubranches.core.embedding_space import EmbeddingSpace
from gpubranches.core.tie_order import splitmix64
from gpubranches.encoders.quantizers import ScalarQuantizer, SignQuantizer


def write_plain(self):
    """Return constants as bytes without safetensors; of the quantizers the signs alone."""
    file = io.BytesIO()
    np.savez(file, **({} if self.signs is None else {"mean": self.signs.mean_, "rotation": self.signs.rotation_}))
    return file.getvalue()


def read_plain(path, content, **dims):
    with np.load(io.BytesIO(content)) as arrays:
        if "mean" not in arrays:
            return FittedStatistics(None, None, None)
        signs = SignQuantizer()
        signs.mean_, signs.rotation_ = arrays["mean"], arrays["rotation"]
    return FittedStatistics(signs, None, None)


if importlib.util.find_spec("safetensors") is None:  # nothing else may write the format of a catalog
    FittedStatistics.to_bytes, FittedStatistics.from_bytes = write_plain, staticmethod(read_plain)


def decoding_head(rng, d, D):
    """Return a head of random towers, with a decoder."""
    from gpubranches.encoders.heads import TrainedHead
    from gpubranches.encoders.heads.towers import Tower

    def drawn(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    decoder = Tower(drawn(D, d), ((drawn(20, d), drawn(20)), (drawn(D, 20), drawn(D))))
    return TrainedHead(Tower(drawn(d, D), ()), 0.05 * drawn(D), decoder=decoder)


class World:
    """A catalog of several segments with deleted rows, beside the same rows as plain arrays, in order of ids.

    decoded: it stores no embeddings, they are decoded from the codes.
    """

    def __init__(self, path, sizes, d=8, D=48, levels=256, seed=0, deleted=0.1, duplicates=False, decoded=False):
        rng = np.random.default_rng(seed)
        signs = SignQuantizer().fit(rng.standard_normal((50, D)).astype(np.float32))
        head = decoding_head(rng, d, D) if decoded else None
        scalar = ScalarQuantizer(low=-1.0, high=1.0).fit(np.zeros((1, d), np.float32)) if decoded else None
        if decoded:
            some = Codec(head, scalar, fitted=True).decode(rng.integers(0, levels, (50, d)).astype(np.uint8))
            signs = SignQuantizer().fit(some.astype(np.float32))
        made_by = {"head": head.to_bytes(), "scalar": scalar, "keep_embeddings": False} if decoded else {}
        self.catalog = Catalog.create(path, space=EmbeddingSpace(), d=d, signs=signs, **made_by)
        codes, embeddings, ids, signed = [], [], [], []
        for n in sizes:
            part = rng.integers(0, levels, (n, d)).astype(np.uint8)
            vectors = rng.standard_normal((n, D)).astype(np.float16)
            if duplicates:
                part[:], vectors[:] = part[:1], vectors[:1]
            if decoded:
                vectors = Codec(head, scalar, fitted=True).decode(part)
            own = self.catalog.next_id + np.sort(rng.choice(2 * n + 1, n, replace=False)).astype(np.int64)
            bits, scales = signs.encode(vectors.astype(np.float32))
            stored = None if decoded else vectors.__getitem__
            self.catalog.append(part, ids=own, bits=bits, scales=scales, embeddings=stored)
            (
                codes.append(part),
                embeddings.append(vectors.astype(np.float32)),
                ids.append(own),
                signed.append((bits, scales)),
            )
        every = np.concatenate([np.zeros(0, np.int64), *ids])
        gone = every[rng.random(len(every)) < deleted]
        self.catalog.delete(gone)
        alive = ~np.isin(every, gone)
        self.ids = every[alive]
        self.codes = np.concatenate([np.zeros((0, d), np.uint8), *codes])[alive]
        self.embeddings = np.concatenate([np.zeros((0, D), np.float32), *embeddings])[alive]
        # As stored: the last bit of a scale may depend on how many rows were encoded together.
        self.bits = np.concatenate([np.zeros((0, signs.n_bits // 8), np.uint8), *(bits for bits, _ in signed)])[alive]
        self.scales = np.concatenate([np.zeros(0, np.float16), *(scales for _, scales in signed)])[alive]
        self.rng = rng

    def where(self, share):
        """Return a bitmap of a random share of the items, and which rows of the plain arrays it holds."""
        inside = self.rng.random(len(self.ids)) < share
        flags = np.zeros(self.catalog.n_positions, np.bool_)
        flags[self.catalog.positions(self.ids[inside])] = True
        return pack_bitmap(flags), inside

    def boxes(self, count=12, estimators=5, width=180):
        """Return random boxes, some empty of features, some of a single point; an estimator may have none."""
        members = []
        for _ in range(count):
            f = int(self.rng.integers(0, 5))
            features = self.rng.choice(self.codes.shape[1], f, replace=False).astype(np.int16)
            low = self.rng.integers(0, 256, f)
            high = np.minimum(255, low + self.rng.integers(0, width, f))
            members.append(Box(features, low.astype(np.uint8), high.astype(np.uint8)))
        return Boxes(members, self.rng.integers(0, estimators, count).tolist(), estimators + 1)


def ordered(keys, ids, limit=None):
    mixed = splitmix64(ids)
    return sorted(range(len(ids)), key=lambda i: (-keys[i], int(mixed[i])))[:limit]


def empty():
    return np.zeros(0, np.int16), np.zeros(0, np.uint8), np.zeros(0, np.uint8)


def check_votes(world, backend, boxes, min_votes, limit, share):
    where, inside = world.where(share) if share is not None else (None, np.ones(len(world.ids), bool))
    votes = boxes.votes(world.codes)
    rows = np.flatnonzero((votes >= min_votes) & inside)
    expected = rows[ordered(votes[rows].astype(int), world.ids[rows], limit)]
    found = backend.apply(boxes, min_votes=min_votes, limit=limit, where=where)
    assert found.total == len(rows)
    assert found.ids.tolist() == world.ids[expected].tolist()
    assert found.votes.tolist() == votes[expected].tolist()
    assert found.votes.dtype == np.uint16


def check_nearest_codes(world, backend, query, k, where, inside):
    squared = ((world.codes.astype(int) - query.astype(int)) ** 2).sum(axis=1)
    rows = np.flatnonzero(inside)
    expected = rows[ordered(-squared[rows], world.ids[rows], k)]
    found = backend.search(query[None], k, tier="codes", where=where)
    assert found.ids.shape == found.distances.shape == (1, k)
    assert found.ids[0].tolist() == world.ids[expected].tolist() + [-1] * (k - len(expected))
    assert found.distances[0, : len(expected)].tolist() == squared[expected].tolist()
    assert np.isinf(found.distances[0, len(expected) :]).all()


def check_bits(world, backend, weights, limit, threshold, share):
    where, inside = world.where(share) if share is not None else (None, np.ones(len(world.ids), bool))
    scores = world.catalog.signs.planes(weights).scores(world.bits, world.scales)
    cut = None if threshold is None or not len(scores) else float(np.quantile(scores, threshold))
    rows = np.flatnonzero(inside & (scores >= cut if cut is not None else True))
    expected = rows[ordered(scores[rows], world.ids[rows], limit)]
    found = backend.score(weights, tier="bits", limit=limit, threshold=cut, where=where)
    assert found.total == len(rows)
    assert found.ids.tolist() == world.ids[expected].tolist()
    assert found.scores.tolist() == scores[expected].tolist()
