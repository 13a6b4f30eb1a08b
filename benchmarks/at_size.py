"""The scans of the gpu backend held against plain expressions, over synthetic catalogs that may fill a card."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.reference import Plain
from gpubranches.backends.gpu import GpuBackend
from gpubranches.backends.gpu.keys import score_keys
from gpubranches.bench.questions import Questions, ask
from gpubranches.bench.synthetic import SyntheticCatalog, SyntheticResidence
from gpubranches.quantize import CodeWeights

_TIMED = 10


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
    asked = ask(catalog, users=1)
    start = time.perf_counter()
    with GpuBackend(catalog, make_device, make_residence=partial(SyntheticResidence, tiers=tiers)) as backend:
        made_s = time.perf_counter() - start
        checked = _Checked(catalog, backend, Plain(xp, to_host, backend._residence.pages), asked, k)
        checks = {**checked.boxes(), **checked.nearest(), **checked.linear()}
        if "bits" in tiers:
            checks |= checked.bits()
        taken = []
        for _ in range(_TIMED):
            start = time.perf_counter()
            backend.evaluate(asked.branch, limit=100)
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
    """A backend over a catalog, the plain scans over the same pages, and questions, of whose answers k are wanted."""

    catalog: SyntheticCatalog
    backend: GpuBackend
    plain: Plain
    asked: Questions
    k: int

    def boxes(self) -> dict[str, bool]:
        boxes = self.asked.ensembles[0]
        majority = boxes.n_estimators // 2 + 1
        found = self.backend.evaluate(boxes, min_votes=majority, limit=self.k)
        where = np.zeros(self.catalog.n // 8, np.uint8)
        where[:: max(1, len(where) // 4096)] = 255
        where[-64:] = 255
        inside = np.flatnonzero(np.unpackbits(where, bitorder="little"))
        filtered = self.backend.evaluate(boxes, where=where)
        votes = boxes.votes(self.catalog.take(inside))
        return {
            "boxes: total": found.total == self._on_device(self.plain.votes_total, boxes, majority),
            "boxes: votes of the best": bool((boxes.votes(self.catalog.take(found.ids)) == found.votes).all()),
            "boxes: filtered ids": sorted(filtered.ids.tolist()) == inside[votes >= 1].tolist(),
        }

    def nearest(self) -> dict[str, bool]:
        found = self.backend.search(self.asked.query, self.k, tier="codes")
        keys = self._on_device(self.plain.nearest_keys, self.asked.query, self.k)
        away = self.catalog.take(found.ids[0]).astype(np.int64) - self.asked.query
        return {
            "nearest: keys": found.distances[0].astype(np.int64).tolist() == keys,
            "nearest: ids": (away**2).sum(axis=1).tolist() == keys,
        }

    def linear(self) -> dict[str, bool]:
        model = CodeWeights.quantise(self.asked.weights)
        found = self.backend.score(self.asked.weights, tier="codes", limit=self.k)
        keys = self._on_device(self.plain.linear_keys, model, self.k)
        return {
            "linear: keys": score_keys(found.scores).tolist() == keys,
            "linear: ids": model.scores(self.catalog.take(found.ids)).tolist() == found.scores.tolist(),
        }

    def bits(self) -> dict[str, bool]:
        planes = self.catalog.signs.planes(self.asked.direction)
        found = self.backend.score(self.asked.direction, tier="bits", limit=self.k)
        keys = self._on_device(self.plain.bits_keys, planes, self.k)
        return {"bits: keys": score_keys(found.scores).tolist() == keys}

    def _on_device(self, work: Callable[..., Any], *args: Any) -> Any:
        return self.backend._owner.call(lambda: work(*args))
