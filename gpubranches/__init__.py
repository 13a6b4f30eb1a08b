"""gpubranches: find all images of a catalog that match an idea, from a few marks."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog as Catalog
    from gpubranches.core.boxes import Box as Box
    from gpubranches.core.boxes import Boxes as Boxes
    from gpubranches.core.results import Candidates as Candidates
    from gpubranches.core.results import Neighbors as Neighbors
    from gpubranches.core.results import Ranking as Ranking
    from gpubranches.encoders import VocabularyEmbedder as VocabularyEmbedder
    from gpubranches.engines import open_backend as open_backend
    from gpubranches.errors import GpuBranchesError as GpuBranchesError
    from gpubranches.ingestion import ingest as ingest
    from gpubranches.service import Session as Session

_HOMES = {
    "Box": "core.boxes",
    "Boxes": "core.boxes",
    "Candidates": "core.results",
    "Catalog": "catalog",
    "GpuBranchesError": "errors",
    "Neighbors": "core.results",
    "Ranking": "core.results",
    "Session": "service",
    "VocabularyEmbedder": "encoders",
    "ingest": "ingestion",
    "open_backend": "engines",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - the lazy names below are the public ones
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that `import gpubranches` needs NumPy alone."""
    if name not in _HOMES:
        raise AttributeError(f"module 'gpubranches' has no attribute {name!r}")
    return getattr(importlib.import_module(f"gpubranches.{_HOMES[name]}"), name)
