"""The engines that are compared, each with the questions it can answer.

gpu, cpu and kdtree are this package's backends. The engine numpy scans the columns of the codes with NumPy. faiss-cpu
and faiss-gpu are indexes over the codes; sklearn-forest is a random forest of 25 trees trained on the same marks and
applied to every row.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpubranches.research.speed.engine import Engine
from gpubranches.research.speed.other_engines import faiss_engine, forest_engine, numpy_engine
from gpubranches.research.speed.own_engines import backend_engine
from gpubranches.research.speed.questions import Questions
from gpubranches.research.speed.synthetic import SyntheticCatalog

ENGINES = ("gpu", "cpu", "kdtree", "numpy", "faiss-cpu", "faiss-gpu", "sklearn-forest")


@contextmanager
def open_engine(name: str, catalog: SyntheticCatalog, asked: Questions, folder: Path) -> Iterator[Engine]:
    """Open an engine over a catalog. Raises BackendUnavailableError if a requirement is missing on this machine.

    folder: where an engine may keep files while it is open.
    """
    if name in ("gpu", "cpu", "kdtree"):
        with backend_engine(name, catalog, asked, folder) as engine:
            yield engine
    elif name == "numpy":
        yield numpy_engine(catalog, asked)
    elif name in ("faiss-cpu", "faiss-gpu"):
        yield faiss_engine(name, catalog, asked)
    else:
        yield forest_engine(catalog, asked)
