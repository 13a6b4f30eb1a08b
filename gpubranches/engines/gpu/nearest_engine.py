"""The choice of the engine for nearest neighbours by embeddings, faiss or the kernels."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.bitmaps import Bitmap
from gpubranches.core.results import Candidates
from gpubranches.engines.gpu.measured_times import Engine, Measured, choose
from gpubranches.engines.gpu.nearest import MOST_NEAREST, FaissNearest, Rescore
from gpubranches.engines.gpu.resident_copy import Residence
from gpubranches.errors import DeviceError, DeviceMemoryError

_log = logging.getLogger(__name__)


class FirstNeighbors:
    """The choice of the engine, and the faiss object after its first use.

    All methods but `engine` must be called in the worker's thread.

    requested: "faiss", "kernel", or "auto", for which the measured times decide. If faiss fails, "auto" logs it
    once and uses the kernels from then on, "faiss" raises.
    """

    def __init__(self, requested: str, residence: Residence):
        self.requested = requested
        self._residence = residence
        self._measured = Measured.read() if requested == "auto" else None
        self._faiss: FaissNearest | None = None
        self._fails = ""

    def engine(self, k: int, batch: int) -> tuple[Engine, str]:
        """Return the engine for the k nearest of `batch` queries over all rows, and the reason."""
        resident = self._residence.plan.tiers
        if self.requested == "kernel" or (self.requested == "faiss" and "embeddings" in resident):
            return ("faiss" if self.requested == "faiss" else "kernel"), f"--nn {self.requested}"
        if self._fails:
            return "kernel", self._fails
        rows = self._residence.catalog.n if "embeddings" in resident else 0
        return choose(self._measured, self._residence.device.name, resident, rows, k, batch)

    def takes(self, k: int, batch: int, where: Bitmap | None) -> bool:
        """Return whether faiss can answer: only over all rows, with no deleted row, and for k up to its limit."""
        self._residence.refresh()
        whole = where is None and self._residence.all_live and self._residence.resident.width > 0
        if not whole or k > MOST_NEAREST or self.engine(k, batch)[0] == "kernel":
            return False
        try:
            self._faiss = self._faiss or FaissNearest(self._residence)
        except DeviceError as error:
            self._fall_back(error)
            return False
        return True

    def search(self, queries: NDArray[np.float32], k: int, rescore: Rescore) -> list[Candidates | None]:
        """Return the answers of faiss, with None for each that is not proven. Call `takes` first."""
        assert self._faiss is not None  # nosec B101  # set by `takes`
        try:
            return self._faiss.search(queries, k, rescore)
        except DeviceMemoryError as error:
            self._fall_back(error)
            self._faiss = None
        return [None] * len(queries)

    def close(self) -> None:
        """Free what faiss holds on the card: its temporary memory and the norms of the pages."""
        self._faiss = None

    def _fall_back(self, error: DeviceError) -> None:
        """Use the kernels from now on and log why, or raise the error where faiss was requested."""
        if self.requested == "faiss":
            raise error
        self._fails = f"faiss cannot be used: {error}"
        _log.warning("the nearest by embeddings: uses the kernels, since %s", error)
