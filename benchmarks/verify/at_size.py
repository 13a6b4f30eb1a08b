"""Compare the scans of the gpu backend with plain expressions, over synthetic catalogs that may fill a card."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.verify.reference import Plain
from gpubranches.catalog import TILE, ZONES
from gpubranches.encoders.quantizers import CodeWeights
from gpubranches.engines.gpu import GpuBackend, launchers
from gpubranches.engines.gpu.keys import key_scores, score_keys
from gpubranches.engines.gpu.launchers import SINK_WORDS, Resident
from gpubranches.research.speed.questions import Questions, ask
from gpubranches.research.speed.synthetic import SyntheticCatalog, SyntheticResidence

_TIMED = 10
_AT_ONCE = 1 << 20
"""Number of rows that the expressions process at a time."""


def check_at_size(
    make_device: Callable[[], Any],
    xp: Any,
    to_host: Callable[[Any], Any],
    rows: int,
    tiers: tuple[str, ...],
    k: int = 1000,
) -> dict[str, Any]:
    """Compare the answers over a synthetic catalog with those of `reference`, in expressions of the array module xp."""
    catalog = SyntheticCatalog(rows)
    asked = ask(catalog, users=1, drawn=True)
    start = time.perf_counter()
    made: Any = partial(SyntheticResidence, tiers=tiers)
    with GpuBackend(cast(Any, catalog), make_device, make_residence=made) as backend:
        made_s = time.perf_counter() - start
        checked = _Checked(catalog, backend, Plain(xp, to_host, cast(Any, backend._residence.pages)), asked, k)
        checks = {**checked.boxes(), **checked.nearest(), **checked.linear()}
        if "bits" in tiers:
            checks |= checked.bits()
        taken = []
        for _ in range(_TIMED):
            start = time.perf_counter()
            backend.apply(asked.branch, limit=100)
            taken.append(1e3 * (time.perf_counter() - start))
    return {
        "tiers": list(tiers),
        "rows": catalog.n,
        "models": asked.models,
        "made_s": round(made_s, 2),
        "checks": checks,
        "single_branch_ms": round(float(np.median(taken)), 3),
    }


@dataclass(frozen=True)
class _Checked:
    """A backend over a catalog, the plain scans over the same pages, questions, and k, the length of answers."""

    catalog: SyntheticCatalog
    backend: GpuBackend
    plain: Plain
    asked: Questions
    k: int

    def boxes(self) -> dict[str, bool]:
        boxes = self.asked.ensembles[0]
        majority = boxes.n_estimators // 2 + 1
        found = self.backend.apply(boxes, min_votes=majority, limit=self.k)
        where = np.zeros(self.catalog.n // 8, np.uint8)
        where[:: max(1, len(where) // 4096)] = 255
        where[-64:] = 255
        inside = np.flatnonzero(np.unpackbits(where, bitorder="little"))
        filtered = self.backend.apply(boxes, where=where)
        votes = boxes.votes(self.catalog.codes(inside))
        return {
            "boxes: total": found.total == self._on_device(self.plain.votes_total, boxes, majority),
            "boxes: votes of the best": bool((boxes.votes(self.catalog.codes(found.ids)) == found.votes).all()),
            "boxes: filtered ids": sorted(filtered.ids.tolist()) == inside[votes >= 1].tolist(),
        }

    def nearest(self) -> dict[str, bool]:
        found = self.backend.search(self.asked.query, self.k, tier="codes")
        keys = self._on_device(self.plain.nearest_keys, self.asked.query, self.k)
        away = self.catalog.codes(found.ids[0]).astype(np.int64) - self.asked.query
        return {
            "nearest: keys": found.distances[0].astype(np.int64).tolist() == keys,
            "nearest: ids": (away**2).sum(axis=1).tolist() == keys,
        }

    def linear(self) -> dict[str, bool]:
        model = CodeWeights.quantise(self.asked.weights)
        found = self.backend.score(self.asked.weights, tier="codes", limit=self.k)
        keys = self._on_device(self.plain.linear_keys, model, self.k)
        return {
            "linear: keys": score_keys(_scores(found)).tolist() == keys,
            "linear: ids": model.scores(self.catalog.codes(found.ids)).tolist() == _scores(found).tolist(),
        }

    def bits(self) -> dict[str, bool]:
        planes = self.catalog.signs.planes(self.asked.direction)
        found = self.backend.score(self.asked.direction, tier="bits", limit=self.k)
        keys = self._on_device(self.plain.bits_keys, planes, self.k)
        return {"bits: keys": score_keys(_scores(found)).tolist() == keys}

    def _on_device(self, work: Callable[..., Any], *args: Any) -> Any:
        return self.backend._worker.call(lambda: work(*args))


def _resident_embeddings(device: Any, xp: Any, tiles: int, D: int) -> tuple[Any, Any, Resident]:
    """Return drawn embeddings on the device, (tiles x TILE, D) float16, their ids, and the tiles that point at both.

    The caller keeps the two arrays as long as kernels read the tiles.
    """
    rows = tiles * TILE
    embeddings = device.empty((rows, D), np.float16)
    for start in range(0, rows, _AT_ONCE):
        drawn = _drawn(xp, start, min(start + _AT_ONCE, rows), D)
        steps = (drawn >> np.uint32(20)).astype(xp.float32)
        embeddings[start : start + len(drawn)] = (steps / 2048 - 1).astype(xp.float16)
    ids = device.put(np.arange(TILE, dtype=np.uint32))
    entries = np.zeros((tiles, 8), np.uint64)
    entries[:, 4] = device.address(ids)
    entries[:, 5] = device.address(embeddings) + 2 * D * TILE * np.arange(tiles, dtype=np.uint64)
    entries[:, 6] = TILE * np.arange(tiles)
    return embeddings, ids, Resident(device, device.put(entries), tiles, 4, 0, D)


def check_rescore(
    make_device: Callable[[], Any], xp: Any, to_host: Callable[[Any], Any], rows: int, D: int = 512
) -> dict[str, Any]:
    """Compare the best scores of resident embeddings, (rows, D), with a product in expressions of xp.

    Scores within 1e-4 of the border may be on either side of it.
    """
    device = make_device()
    tiles = max(1, rows // TILE)
    rows = tiles * TILE
    *held, on = _resident_embeddings(device, xp, tiles, D)
    embeddings = held[0]
    rng = np.random.default_rng(0)
    mean, weights = rng.standard_normal((2, D)).astype(np.float32) / 8
    sample = to_host(embeddings[: 1 << 16]).astype(np.float32)
    border = np.float32(np.quantile((sample - mean) @ weights, 0.99))
    room = max(1024, rows // 16)
    found = device.empty(room, np.uint64)
    header = np.zeros((1, SINK_WORDS), np.uint64)
    key = int(score_keys(np.array([border]))[0])
    header[0, [0, 1, 4]] = device.address(found), room, key | 0xFFFFFFFF << 32
    sink = device.put(header)
    allowed = device.put(np.full(rows // 64, ~np.uint64(0)))
    vectors = device.put(mean), device.put(weights)
    launchers.rescore(on, None, None, allowed, *vectors, False, 1, sink)
    count = int(device.get(sink)[0, 2])
    listed = device.get(found[: min(count, room)])
    sure = likely = 0
    scores = np.zeros(rows, np.float32)
    for start in range(0, rows, _AT_ONCE):
        own = embeddings[start : start + _AT_ONCE].astype(xp.float32) - xp.asarray(mean)
        own = (own * xp.asarray(weights)).sum(axis=1)
        scores[start : start + len(own)] = to_host(own)
        sure += int((own > border + 1e-4).sum())
        likely += int((own > border - 1e-4).sum())
    own_keys, positions = (listed >> np.uint64(32)).astype(np.uint32), (listed & np.uint64(0xFFFFFFFF)).astype(np.int64)
    device.close()
    return {
        "rows": rows,
        "found": count,
        "checks": {
            "rescore: total": 0 < count <= room and sure <= count <= likely,
            "rescore: each once": len(np.unique(positions)) == len(positions),
            "rescore: scores": bool(np.abs(key_scores(own_keys) - scores[positions]).max(initial=0) < 1e-4),
        },
    }


def check_quantize(
    make_device: Callable[[], Any], xp: Any, to_host: Callable[[Any], Any], rows: int, d: int = 32
) -> dict[str, Any]:
    """Compare codes and zones of vectors, (rows, d), with expressions of xp."""
    device = make_device()
    tiles = max(1, rows // TILE)
    rows = tiles * TILE - 100
    vectors, codes = device.empty((rows, d), np.float32), device.empty((tiles, d, TILE), np.uint8)
    zones = device.empty((tiles, 2, d, ZONES), np.uint8)
    for start in range(0, rows, _AT_ONCE):
        drawn = _drawn(xp, start, min(start + _AT_ONCE, rows), d)
        vectors[start : start + len(drawn)] = (drawn >> np.uint32(8)).astype(xp.float32) / 2**23 - 1
    low, factors = np.full(d, -0.9, np.float32), np.linspace(120, 160, d).astype(np.float32)
    launchers.quantize(device, vectors, device.put(low), device.put(factors), codes, zones)
    same_codes = same_zones = True
    for first in range(0, tiles, _AT_ONCE // TILE):
        own = vectors[first * TILE : (first + _AT_ONCE // TILE) * TILE]
        levels = xp.floor((own - xp.asarray(low)) * xp.asarray(factors) + xp.float32(0.5))
        expected = xp.clip(levels, 0, 255).astype(xp.uint8)
        made = codes[first : first + _AT_ONCE // TILE]
        flat = made.transpose(0, 2, 1).reshape(-1, d)[: len(own)]
        same_codes &= bool((flat == expected).all())
        whole = made if first + len(made) < tiles else made[:-1]
        parts = whole.reshape(len(whole), d, ZONES, TILE // ZONES)
        own_zones = zones[first : first + len(whole)]
        same_zones &= bool(
            (own_zones[:, 0] == parts.min(axis=3)).all() and (own_zones[:, 1] == parts.max(axis=3)).all()
        )
    device.close()
    return {"rows": rows, "checks": {"quantize: codes": same_codes, "quantize: zones": same_zones}}


def check_allow(make_device: Callable[[], Any], xp: Any, to_host: Callable[[Any], Any], words: int) -> dict[str, Any]:
    """Compare both kernels over bitmaps of `words` 64-bit words with expressions of xp."""
    device = make_device()
    a, b, both = (device.empty(words, np.uint64) for _ in range(3))
    numbers = xp.arange(words, dtype=xp.uint64)
    a[...] = numbers * np.uint64(0x9E3779B97F4A7C15)
    b[...] = numbers * np.uint64(0xBF58476D1CE4E5B9) + np.uint64(5)
    launchers.allow_both(device, a, b, both)
    checks = {"allow: both": bool((both == a & b).all())}
    positions = np.unique(np.random.default_rng(0).integers(0, 64 * words, min(words, 1 << 20))).astype(np.uint32)
    device.zero(both)
    launchers.allow_rows(device, device.put(positions), a, both)
    flags = np.zeros(words, np.uint64)
    np.bitwise_or.at(flags, positions // 64, np.uint64(1) << (positions % 64).astype(np.uint64))
    checks["allow: listed"] = bool((both == (xp.asarray(flags) & a)).all())
    device.close()
    return {"rows": 64 * words, "checks": checks}


def _scores(found: Any) -> NDArray[np.float32]:
    scores: NDArray[np.float32] = found.scores
    return scores


def _drawn(xp: Any, start: int, stop: int, width: int) -> Any:
    """Return rows start..stop-1 of synthetic words, (stop - start, width) uint32, each a hash of its position."""
    rows = xp.arange(start, stop, dtype=xp.uint32)[:, None]
    words = rows * np.uint32(width) + xp.arange(width, dtype=xp.uint32)
    for factor in (0x7FEB352D, 0x846CA68B):
        words = (words ^ (words >> np.uint32(16))) * np.uint32(factor)
    return words ^ (words >> np.uint32(16))
