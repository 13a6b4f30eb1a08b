"""The frames of a video before and after an item."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpubranches.catalog import Catalog
from gpubranches.catalog.metadata.columns import IMAGE_PATH, IMAGE_SECONDS

_IDS = 64
"""How many ids on each side are looked at. Frames that were deleted or could not be read leave gaps."""


def frames_around(catalog: Catalog, item: int, each_side: int) -> list[dict[str, Any]]:
    """Return the columns of a frame and of the frames of its video before and after it, ascending by time.

    each_side: the largest number of frames before it, and of those after it. The list is empty for an unknown item and
    for one that is no frame of a video. An ingest gives the frames of a video consecutive ids, so only the metadata of
    ids nearby are read, however large the catalog is; frames of the video with other ids are not found.
    """
    ids = np.arange(max(0, item - _IDS), item + _IDS + 1)
    rows = catalog.items(ids[catalog.alive(ids)])
    own = next((row for row in rows if row["id"] == item), None)
    if own is None or own.get(IMAGE_SECONDS) is None:
        return []
    frames = [row for row in rows if row.get(IMAGE_SECONDS) is not None and _video(row) == _video(own)]
    frames.sort(key=lambda row: (row[IMAGE_SECONDS], row["id"]))
    at = frames.index(own)
    return frames[max(0, at - each_side) : at + each_side + 1]


def _video(row: dict[str, Any]) -> tuple[Any, Any]:
    return row.get("input"), row.get(IMAGE_PATH)
