"""Recording in a catalog that its pictures have moved."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpubranches.catalog import Catalog
from gpubranches.catalog.pictures.image_files import image_file
from gpubranches.core import stores
from gpubranches.core.files import escaped_path
from gpubranches.errors import UsageError

_SAMPLED = 1000
"""The largest number of items whose pictures are checked."""


@dataclass(frozen=True)
class RelocateReport:
    """The result of `relocate`. Of `looked_at` sampled items, `before` had a picture file and `there` have one now."""

    looked_at: int
    before: int
    there: int


def relocate(directory: str | Path, before: str | Path, after: str | Path) -> RelocateReport:
    """Record in a catalog, in one commit, that the pictures under `before` are now under `after`.

    The folders are those of inputs, those that links lead to, or parents of these. Raises UsageError if `after` is no
    folder, or if it contains no picture of the catalog.
    """
    catalog = Catalog.open(directory)
    before, after = stores.without_file_scheme(before), stores.without_file_scheme(after)
    old = str(before) if stores.is_url(before) else os.path.abspath(before)
    if stores.is_url(after):
        raise UsageError(f"relocate: expected a folder, got {after}; name a store by serve --pictures")
    new = os.path.realpath(after)
    if not os.path.isdir(new):
        raise UsageError(f"{escaped_path(new)}: expected the folder of the pictures, found none")
    source = catalog.source
    changed = {**source, "moved": [*source.get("moved", []), [old, new]]}
    ids = catalog.sample_ids(min(_SAMPLED, catalog.n), np.random.default_rng(0))
    items = catalog.items(ids)
    then, now = ([image_file(at, item) is not None for item in items] for at in (source, changed))
    if not any(
        image_file(changed, item) != image_file(source, item) for item, there in zip(items, now, strict=True) if there
    ):
        places = ", ".join(escaped_path(root) for root in source.get("roots", {}).values()) or "none"
        raise UsageError(
            f"{escaped_path(new)}: expected pictures of the catalog that were in {escaped_path(old)}, found none; its "
            f"folders of pictures are: {places}"
        )
    catalog.set_source(changed)
    return RelocateReport(len(items), sum(then), sum(now))
