"""Which rows a question is about: named on the host, a bitmap on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import Catalog
from gpubranches.core.bitmaps import Bitmap
from gpubranches.core.boxes import Boxes
from gpubranches.engines.gpu import launchers
from gpubranches.engines.gpu.device import DeviceArray
from gpubranches.engines.gpu.program import compile_boxes
from gpubranches.engines.gpu.resident_copy import Residence


@dataclass(frozen=True)
class Gathered:
    """Embeddings (m, D) float16 of listed rows at positions (m,) uint32; of rows that are resident none are needed."""

    positions: NDArray[np.uint32]
    embeddings: NDArray[np.float16]


@dataclass(frozen=True)
class Chosen:
    """Which rows count, told on the host: in `where` (None: all) and, if given, of these ids, (m,), in these boxes."""

    where: Bitmap | None
    ids: NDArray[np.int64] | None = None
    boxes: Boxes | None = None
    gathered: Gathered | None = None


def positions_of(catalog: Catalog, ids: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Return the positions of those ids that are in the catalog, (m,) uint32 ascending."""
    return np.unique(catalog.live_positions(ids)).astype(np.uint32)


def allowed_rows(residence: Residence, rows: Chosen) -> DeviceArray:
    """Return the bitmap of rows on the device, (positions / 64,) uint64, after the resident copy followed the catalog.

    To be called in the device's thread.
    """
    residence.refresh()
    device, on, allowed = residence.device, residence.resident, residence.live
    if not on.n_tiles:
        return allowed
    if rows.where is not None:
        # The filter was made for the rows of its time; those appended since are not in it.
        words = np.zeros(len(allowed), np.uint64)
        own = rows.where.view(np.uint64)[: len(words)]
        words[: len(own)] = own
        chosen = device.put(words)
        launchers.allow_both(device, chosen, allowed, chosen)
        allowed = chosen
    if rows.ids is not None:
        positions, listed = positions_of(residence.catalog, rows.ids), _no_rows(residence)
        if len(positions):
            launchers.allow_rows(device, device.put(positions), allowed, listed)
        allowed = listed
    if rows.boxes is not None:
        inside = _no_rows(residence)
        launchers.boxes_bitmap(on, allowed, compile_boxes([rows.boxes], 1), inside)
        allowed = inside
    return allowed


def _no_rows(residence: Residence) -> DeviceArray:
    """Return an empty bitmap."""
    bitmap = residence.device.empty(len(residence.live), np.uint64)
    residence.device.zero(bitmap)
    return bitmap
