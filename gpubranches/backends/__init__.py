"""What evaluates models over a catalog: one protocol, several engines, the same answers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from gpubranches.backends.protocol import Backend
from gpubranches.errors import BackendUnavailableError, DeviceError, UsageError

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog

__all__ = ["BACKENDS", "Backend", "open_backend"]

BACKENDS = ("oracle", "cpu", "kdtree", "gpu")

_log = logging.getLogger(__name__)


def open_backend(
    name: str, catalog: Catalog, *, nn: str = "auto", report: Callable[[str, int, int], None] | None = None
) -> Backend:
    """Open a backend by name: "oracle", "cpu", "kdtree", "gpu", or "auto", which takes the fastest usable and logs why.

    nn: what answers nearest neighbours over codes: "kernel", the backend's own exact scan, "faiss", or "auto" (kernel);
    on a card over embeddings, too, where "auto" is what was measured to be quicker.
    report: told (stage, done, total) while the gpu backend uploads. Raises UsageError for another name,
    BackendUnavailableError when what it needs is missing, CatalogIndexError when kdtree has no index of the catalog's
    codes, and for "gpu" DeviceError when the card cannot be used, DeviceMemoryError when the codes do not fit.
    """
    if nn not in ("auto", "kernel", "faiss"):
        raise UsageError(f"nn: expected one of auto, kernel, faiss, got {nn!r}")
    if name == "auto":
        try:
            backend = _gpu(catalog, nn, report)
        except DeviceError as error:
            # Where there is no card, or no CuPy, nothing is wrong that a user has to be told unasked.
            level = logging.INFO if isinstance(error, BackendUnavailableError) else logging.WARNING
            _log.log(level, "backend auto: took cpu, since %s", " ".join(str(error).split()))
            name = "cpu"
        else:
            _log.info("backend auto: took gpu")
            return backend
    if name == "oracle":
        from gpubranches.backends.oracle import OracleBackend

        return OracleBackend(catalog, nn=nn)
    if name == "cpu":
        from gpubranches.backends.cpu import CpuBackend

        return CpuBackend(catalog, nn=nn)
    if name == "kdtree":
        from gpubranches.backends.kdtree import KdtreeBackend

        return KdtreeBackend(catalog, nn=nn)
    if name == "gpu":
        return _gpu(catalog, nn, report)
    raise UsageError(f"backend: expected one of auto, {', '.join(BACKENDS)}, got {name!r}")


def _gpu(catalog: Catalog, nn: str, report: Callable[[str, int, int], None] | None) -> Backend:
    from gpubranches.backends.gpu import GpuBackend
    from gpubranches.backends.gpu.cupy_device import CupyDevice
    from gpubranches.backends.gpu.residence import Residence

    return GpuBackend(catalog, CupyDevice, nn=nn, make_residence=partial(Residence, report=report))
