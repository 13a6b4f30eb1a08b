"""A simulated user on the demo, whose truth is known: what a text finds, and what refining it finds."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import Catalog
from gpubranches.demo.build import truth
from gpubranches.demo.scenes import Group, Scene
from gpubranches.encoders import open_embedder
from gpubranches.engines import open_backend
from gpubranches.errors import UsageError
from gpubranches.research.quality import best_f1, f1
from gpubranches.research.quality.protocol import FEWEST, FIRST
from gpubranches.research.quality.users import NEGATIVES
from gpubranches.retrieval.queries import Words
from gpubranches.service import Session

FORMS = (("count", "colour", "shape"), ("colour", "shape"), ("texture", "shape"), ("texture", "colour"))
"""The attributes that concepts are made of, one form a row."""
POSITIVES = (8, 22)
"""Items the user marks right, at most."""


@dataclass(frozen=True)
class DemoReport:
    """Means over concepts and seeds; F1 over the whole catalog.

    precision_20: of the first 20 of the text (fewer where the concept has fewer); rows: for each number of marked
    positives the F1 of the text's first 100, of its best k known to an oracle, after refining, its standard error over
    concepts, and after refining over unmarked items only; skipped: concepts with fewer than 2 right in the first 100.
    """

    n: int
    concepts: int
    skipped: int
    seeds: int
    precision_20: float
    rows: tuple[dict[str, float], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON-able dict."""
        return asdict(self)

    def table(self) -> str:
        """Return the report as lines of text."""
        head = (
            f"{self.n:,} scenes, {self.concepts} concepts, {self.seeds} seeds, {self.skipped} of them skipped "
            f"(fewer than 2 right in the first {FIRST}); precision of the first 20: {self.precision_20:.3f}"
        )
        lines = [head, "F1 over the whole catalog      first 100   best k (oracle)   refined        unmarked only"]
        lines += [
            f"{int(row['positives']):2d} right, up to {NEGATIVES} wrong     {row['first_100']:.3f}       "
            f"{row['best_k']:.3f}             {row['refined']:.3f} ± {row['error']:.3f}  {row['unmarked']:.3f}"
            for row in self.rows
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class _Concept:
    text: str
    right: NDArray[np.bool_]


def check_demo(catalog: str | Path, *, concepts: int = 30, seeds: int = 2) -> DemoReport:
    """Play the simulated user on the demo's catalog and report F1 before and after refining.

    A concept is a query such as "two red triangles" that at least 34 scenes answer; at most `concepts` are drawn at
    random. The user types it, sees the first 100, marks up to 8 or 22 right ones and up to 20 wrong ones found there,
    drawn at random, and refines. Raises UsageError if the catalog is not the demo's or has too few scenes.
    """
    opened = Catalog.open(catalog)
    ids = np.arange(opened.next_id)
    ids = ids[opened.alive(ids)]
    chosen = _concepts(truth(opened, ids.tolist()), concepts)
    if not chosen:
        raise UsageError(f"expected {FEWEST} scenes of some concept, got fewer in {opened.n}; make a larger demo")
    runs: dict[int, list[NDArray[np.float64]]] = {p: [] for p in POSITIVES}
    precisions, skipped = [], 0
    with open_backend("auto", opened) as backend:
        user = _User(Session(opened, backend, embedder=open_embedder("demo")), ids)
        for concept in chosen:
            order = user.ask(concept.text)
            precisions.append(concept.right[order[: min(20, int(concept.right.sum()))]].mean())
            if concept.right[order[:FIRST]].sum() < 2:
                skipped += 1
                continue
            for p in POSITIVES:
                runs[p].append(np.mean([user.refine(concept, order, p, seed) for seed in range(seeds)], axis=0))
    return DemoReport(
        n=opened.n,
        concepts=len(chosen),
        skipped=skipped,
        seeds=seeds,
        precision_20=float(np.mean(precisions)),
        rows=tuple(_summary(p, runs[p]) for p in POSITIVES if runs[p]),
    )


class _User:
    """Knows the truth, marks what is seen. Rows are positions in `ids`, the ascending live ids."""

    def __init__(self, session: Session, ids: NDArray[np.int64]):
        self.session = session
        self.ids = ids

    def ask(self, text: str) -> NDArray[np.intp]:
        """Return the rows of all items, nearest to the text first."""
        return np.searchsorted(self.ids, self.session.search(Words(text), k=len(self.ids)).ids)

    def refine(self, concept: _Concept, order: NDArray[np.intp], p: int, seed: int) -> tuple[float, ...]:
        """Return F1 of the first 100, of the best k, after refining, and after refining over unmarked items."""
        session, right = self.session, concept.right
        rng = np.random.default_rng(seed)
        seen = order[:FIRST]
        good, bad = rng.permutation(seen[right[seen]])[:p], rng.permutation(seen[~right[seen]])[:NEGATIVES]
        session.unmark(np.concatenate([session.positives, session.negatives]))
        session.mark(self.ids[good], +1)
        session.mark(self.ids[bad], -1)
        session.seed = seed
        ranking = session.refine()
        returned = np.zeros(len(self.ids), np.bool_)
        returned[np.searchsorted(self.ids, ranking.ids[ranking.matched])] = True
        first = np.zeros(len(self.ids), np.bool_)
        first[seen] = True
        open_ = np.ones(len(self.ids), np.bool_)
        open_[np.concatenate([good, bad])] = False
        best = best_f1(-np.argsort(order).astype(np.float64), right)
        return f1(first, right), best, f1(returned, right), f1(returned & open_, right & open_)


def _concepts(scenes: list[Scene], count: int) -> list[_Concept]:
    """Draw at most `count` concepts that at least FEWEST scenes answer, from a fixed seed."""
    found: Counter[Scene] = Counter()
    for scene in scenes:
        queries = {
            Scene((Group(**{name: getattr(group, name) for name in form}),))
            for group in scene.groups
            for form in FORMS
            if group.texture != "plain" or "texture" not in form
        }
        found.update(query for query in queries if query.describes(scene))
    usual = sorted((query for query, total in found.items() if total >= FEWEST), key=Scene.phrase)
    drawn = np.random.default_rng(0).permutation(len(usual))[:count]
    return [_Concept(usual[i].phrase(), np.array([usual[i].describes(scene) for scene in scenes])) for i in drawn]


def _summary(p: int, runs: list[NDArray[np.float64]]) -> dict[str, float]:
    values = np.array(runs)
    first, best, refined, unmarked = values.mean(axis=0)
    error = values[:, 2].std() / np.sqrt(len(values))
    return {
        "positives": p,
        "first_100": float(first),
        "best_k": float(best),
        "refined": float(refined),
        "error": float(error),
        "unmarked": float(unmarked),
    }
