"""Play the simulated user on the demo, whose scenes are known: F1 of a text, and F1 after refining."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpubranches.catalog import Catalog
from gpubranches.demo.build import truth
from gpubranches.demo.scenes import Group, Scene
from gpubranches.encoders import open_embedder
from gpubranches.engines import open_backend
from gpubranches.errors import UsageError
from gpubranches.research.quality.comparison import Comparison, evaluate
from gpubranches.research.quality.concepts import FEWEST, Concept, Ids
from gpubranches.research.quality.labelled_catalog import FIRST, LabelledCatalog
from gpubranches.research.quality.models import MODELS
from gpubranches.research.quality.users import NEGATIVES
from gpubranches.retrieval.queries import Words

FORMS = (("count", "colour", "shape"), ("colour", "shape"), ("texture", "shape"), ("texture", "colour"))
"""The attributes that concepts are made of, one form per row."""
POSITIVES = (8, 22)
"""The largest number of items that the user marks right."""


@dataclass(frozen=True)
class DemoReport:
    """Means over concepts. F1 is over the whole catalog, and marked items count as marked.

    precision_20: of the first 20 of the text, or fewer where the concept has fewer items; rows: for each number of
    items marked right, F1 of the text's first 100, of its best k, which only an oracle knows, and after refining, the
    standard error of the last over concepts, and F1 after refining over unmarked items; skipped: concepts with fewer
    than 2 right items in the first 100.
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


def check_demo(catalog: str | Path, *, concepts: int = 30, seeds: int = 2) -> DemoReport:
    """Play the simulated user on the demo's catalog and report F1 before and after refining.

    A concept is a query such as "two red triangles" that at least 34 scenes answer; at most `concepts` are drawn at
    random. The user types it, sees the first 100, marks up to 8 or 22 right ones and up to 20 wrong ones found there,
    drawn at random, and refines. Raises UsageError if the catalog is not the demo's or has too few scenes.
    """
    opened = Catalog.open(catalog)
    ids = opened.ids
    chosen = _concepts(ids, truth(opened, ids.tolist()), concepts)
    if not chosen:
        raise UsageError(f"expected {FEWEST} scenes of some concept, got fewer in {opened.n}; make a larger demo")
    models = {name: MODELS[name] for name in ("text", "refine")}
    with open_backend("auto", opened) as backend:
        labelled = LabelledCatalog(opened, backend, open_embedder("demo"))
        found = evaluate(labelled, chosen, models=models, positives=POSITIVES, seeds=seeds)
        precisions = [_first_precision(labelled, concept) for concept in chosen]
    played = found.counted("refine", "f1", POSITIVES[0])
    return DemoReport(
        n=labelled.n,
        concepts=len(chosen),
        skipped=len(chosen) - played,
        seeds=seeds,
        precision_20=float(np.mean(precisions)),
        rows=tuple(_row(found, p) for p in POSITIVES),
    )


def _first_precision(labelled: LabelledCatalog, concept: Concept) -> float:
    """Return the share of right items among the first 20 for a concept's text, or fewer if it has fewer items."""
    k = min(20, len(concept.items))
    ids = labelled.session(0).search(Words(concept.name), k=k).ids
    return float(np.isin(ids, concept.items).mean())


def _row(found: Comparison, p: int) -> dict[str, float]:
    refined, error = found.mean("refine", "f1", p)
    return {
        "positives": p,
        "first_100": found.mean("text", "f1", p)[0],
        "best_k": found.mean("text", "oracle", p)[0],
        "refined": refined,
        "error": error,
        "unmarked": found.mean("refine", "unmarked", p)[0],
    }


def _concepts(ids: Ids, scenes: list[Scene], count: int) -> list[Concept]:
    """Draw at most `count` concepts from a fixed seed, each with at least FEWEST scenes; ids: (n,) of the scenes."""
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
    drawn = [usual[i] for i in np.random.default_rng(0).permutation(len(usual))[:count]]
    return [
        Concept(query.phrase(), True, ids[np.array([query.describes(scene) for scene in scenes], np.bool_)])
        for query in drawn
    ]
