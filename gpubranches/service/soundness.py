"""The check and the repair of all that a catalog's folder holds: the catalog, its index and the file of the marks."""

from __future__ import annotations

import shutil
from pathlib import Path

from gpubranches.catalog import problems_at
from gpubranches.catalog import repair as repair_catalog
from gpubranches.engines.kdtree.files import FOLDER
from gpubranches.engines.kdtree.files import problems as index_problems
from gpubranches.service.database import FILE
from gpubranches.service.database import problems as marks_problems


def problems(path: Path) -> list[str]:
    """Compare every checksum, and the files with each other; return one line per problem, each with its file.

    Raises CatalogNotFoundError.
    """
    return problems_at(path) + index_problems(path / FOLDER) + marks_problems(path / FILE)


def repair(path: Path) -> list[str]:
    """Keep the undamaged parts of a catalog, and remove a damaged index; return one line per loss.

    Raises CatalogFormatError if the catalog can only be restored from a copy.
    """
    lost = repair_catalog(path)
    if index_problems(path / FOLDER):
        shutil.rmtree(path / FOLDER)
        lost.append(f"{FOLDER}: build it again with `gpubranches index`")
    return lost
