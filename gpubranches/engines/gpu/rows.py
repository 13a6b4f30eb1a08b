"""The rows of a query: a filter on the host, a bitmap on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import Catalog
from gpubranches.engines.gpu import launchers
from gpubranches.engines.gpu.device import DeviceArray
from gpubranches.engines.gpu.program import compile_boxes
from gpubranches.engines.gpu.resident_copy import Residence
from gpubranches.engines.scan import RowFilter


@dataclass(frozen=True)
class Gathered:
    """Positions (m,) uint32 of listed rows, and their embeddings (m, D) float16, empty if they are resident."""

    positions: NDArray[np.uint32]
    embeddings: NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class GpuRowFilter(RowFilter):
    """A row filter with the positions and embeddings of its listed rows, if they have been read, else None."""

    gathered: Gathered | None = None


def positions_of(catalog: Catalog, ids: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Return the positions of the ids that are in the catalog, (m,) uint32 ascending."""
    return np.unique(catalog.live_positions(ids)).astype(np.uint32)


def allowed_rows(residence: Residence, rows: GpuRowFilter) -> DeviceArray:
    """Update the resident copy to the catalog and return the bitmap of rows on the device, (positions / 64,) uint64.

    To be called in the worker's thread.
    """
    residence.refresh()
    device, on, allowed = residence.device, residence.resident, residence.live
    if not on.n_tiles:
        return allowed
    if rows.where is not None:
        # Rows that were appended after the filter was made are not in it.
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
