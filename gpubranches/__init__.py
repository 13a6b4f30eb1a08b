"""gpubranches: find all images of a catalog that match an idea, from a few marks."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog as Catalog
    from gpubranches.core.boxes import Box as Box
    from gpubranches.core.boxes import Boxes as Boxes
    from gpubranches.core.options import RefineOptions as RefineOptions
    from gpubranches.core.results import Candidates as Candidates
    from gpubranches.core.results import Neighbors as Neighbors
    from gpubranches.core.results import Ranking as Ranking
    from gpubranches.encoders import VocabularyEmbedder as VocabularyEmbedder
    from gpubranches.encoders import open_embedder as open_embedder
    from gpubranches.engines import open_backend as open_backend
    from gpubranches.errors import GpuBranchesError as GpuBranchesError
    from gpubranches.ingestion import ingest as ingest
    from gpubranches.retrieval.hits import Hits as Hits
    from gpubranches.service import Session as Session
    from gpubranches.service.answer import Answer as Answer
    from gpubranches.service.matches import Matches as Matches

_HOMES = {
    "Answer": "service.answer",
    "Box": "core.boxes",
    "Boxes": "core.boxes",
    "Candidates": "core.results",
    "Catalog": "catalog",
    "GpuBranchesError": "errors",
    "Hits": "retrieval.hits",
    "Matches": "service.matches",
    "Neighbors": "core.results",
    "Ranking": "core.results",
    "RefineOptions": "core.options",
    "Session": "service",
    "VocabularyEmbedder": "encoders",
    "ingest": "ingestion",
    "open_backend": "engines",
    "open_embedder": "encoders",
}
"""The module of each public name."""

__all__ = sorted(_HOMES)  # noqa: PLE0605 - the lazy names below are the public ones
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that `import gpubranches` needs only NumPy."""
    if name not in _HOMES:
        raise AttributeError(f"module 'gpubranches' has no attribute {name!r}")
    return getattr(importlib.import_module(f"gpubranches.{_HOMES[name]}"), name)
