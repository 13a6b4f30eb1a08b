"""Compare the first page of a text query with the cosine on the full embeddings."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpubranches.errors import UsageError
from gpubranches.research.quality.concepts import Concept
from gpubranches.research.quality.labelled_catalog import LabelledCatalog
from gpubranches.research.quality.measures import average_precision
from gpubranches.retrieval.queries import Words
from gpubranches.retrieval.search import centred_texts


def first_pages(labelled: LabelledCatalog, concepts: Sequence[Concept], ks: Sequence[int]) -> list[dict[str, float]]:
    """Compare the results of text queries with the cosine on the full embeddings, each side centred on its mean.

    For each k: mean average precision of the first k over the concepts that have a text, of the product ("found") and
    of the cosine over all items ("exact"); the largest loss of a concept; median milliseconds of both. Raises
    UsageError if no concept has a text.
    """
    asked = [concept for concept in concepts if concept.text]
    if labelled.embedder is None or not asked:
        raise UsageError(
            "expected concepts that have a text, got none; open the labelled with the embedder that knows them"
        )
    embedder = labelled.embedder
    session = labelled.session(0)
    report = []
    for k in ks:
        rows: list[tuple[float, float, float, float]] = []
        for concept in asked:
            right = labelled.flags(concept.items)
            begin = time.perf_counter()
            found = session.search(Words(concept.name), k=k).ids
            middle = time.perf_counter()
            exact = _nearest(labelled, centred_texts(labelled.catalog, embedder, [concept.name])[0], k)
            end = time.perf_counter()
            found_ap = average_precision(labelled.rows(found), right)
            rows.append((found_ap, average_precision(exact, right), 1e3 * (middle - begin), 1e3 * (end - middle)))
        values = np.array(rows)
        report.append(
            {
                "k": k,
                "concepts": len(rows),
                "found": float(values[:, 0].mean()),
                "exact": float(values[:, 1].mean()),
                "largest_loss": float((values[:, 1] - values[:, 0]).max()),
                "found_ms": float(np.median(values[:, 2])),
                "exact_ms": float(np.median(values[:, 3])),
            }
        )
    return report


def _nearest(labelled: LabelledCatalog, query: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    scores = labelled.embeddings @ query / labelled.lengths
    best = np.argpartition(-scores, k - 1)[:k] if k < labelled.n else np.arange(labelled.n)
    order: NDArray[np.intp] = best[np.argsort(-scores[best], kind="stable")]
    return order
