"""Compare the results of the same marks on different codes of one catalog: boxes, candidates, and the second stage."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from gpubranches.catalog import Catalog
from gpubranches.engines import open_backend
from gpubranches.ingestion.encode import encode
from gpubranches.research.quality.answers import Answer, Model
from gpubranches.research.quality.comparison import Comparison, Progress, evaluate
from gpubranches.research.quality.concepts import Concept
from gpubranches.research.quality.labelled_catalog import UNCHECKED, Draw, LabelledCatalog
from gpubranches.research.quality.models import MODELS

CANDIDATES = 10_000
"""Items that the boxes hand to the second stage, at most, best first by votes."""


def candidates(labelled: LabelledCatalog, draw: Draw) -> Answer:
    """Match the best CANDIDATES by the votes of the ensemble that `Session.refine` trains for its second stage."""
    session = labelled.marked(draw)
    session.refine(random_negatives=UNCHECKED)
    matched = np.zeros(labelled.n, np.bool_)
    if session.boxes is not None:
        found = labelled.backend.apply(session.boxes, min_votes=1, limit=CANDIDATES)
        matched[labelled.rows(found.ids)] = True
    return Answer(matched)


ON_EACH: Mapping[str, Model] = {
    "refine": MODELS["refine"],
    "votes": MODELS["ensemble"],
    "candidates": Model(f"the best {CANDIDATES:,} by votes", candidates),
}
"""The measures that are compared for each code."""
DECODED = "refine-decoded"
"""The default on a catalog that stores no embeddings, of a head that decodes them from the codes."""


def compare_answers(
    labelled: LabelledCatalog,
    concepts: Sequence[Concept],
    heads: Mapping[str, str],
    folder: Path,
    *,
    positives: tuple[int, ...] = (8, 22),
    seeds: int = 1,
    progress: Progress | None = None,
) -> Comparison:
    """Return the measures of `ON_EACH`, and `DECODED`, on codes by several heads, under names such as "pca refine".

    labelled: the unchanged catalog, in which the user marks, so that the marks are the same for every code; heads:
    arguments of `encode`, by name; folder: an empty folder for a copy of the catalog per head, hard-linked if the disk
    allows it.
    """
    with ExitStack() as opened:
        models: dict[str, Model] = {}
        for name, head in heads.items():
            copy = _copied(labelled.catalog, folder / "codes" / name)
            encode(copy, head=head)
            other = _opened(copy, labelled, opened)
            for what, model in ON_EACH.items():
                models[f"{name} {what}"] = replace(model, answer=partial(_in_world, model.answer, other))
            if (codec := other.catalog.codec) is not None and codec.decodes:
                lean = _copied(other.catalog, folder / "decoded" / name)
                Catalog.open(lean).compact(keep_embeddings=False)
                own = partial(_in_world, MODELS["refine"].answer, _opened(lean, labelled, opened))
                models[f"{name} {DECODED}"] = replace(MODELS["refine"], answer=own)
        return evaluate(labelled, concepts, models=models, positives=positives, seeds=seeds, progress=progress)


def _opened(path: Path, labelled: LabelledCatalog, opened: ExitStack) -> LabelledCatalog:
    """Return another catalog of the same items, with a backend of the same name."""
    catalog = Catalog.open(path)
    return LabelledCatalog(
        catalog, opened.enter_context(open_backend(labelled.backend.name, catalog)), labelled.embedder
    )


def _in_world(
    answer: Callable[[LabelledCatalog, Draw], Answer], other: LabelledCatalog, labelled: LabelledCatalog, draw: Draw
) -> Answer:
    """Answer in another catalog of the same items."""
    return answer(other, draw)


def _copied(catalog: Catalog, folder: Path) -> Path:
    """Copy a catalog's files, which never change, as hard links where possible; marks are not copied."""

    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)

    unwanted = shutil.ignore_patterns("labels.sqlite*", "lock", "staging", "index*")
    shutil.copytree(catalog.path, folder, ignore=unwanted, copy_function=link)
    return folder
