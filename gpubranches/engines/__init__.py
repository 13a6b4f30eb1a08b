"""Engines that apply models to a catalog: one protocol, several backends, the same answers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from gpubranches.engines.protocol import Backend
from gpubranches.errors import BackendUnavailableError, DeviceError, UsageError

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog
    from gpubranches.engines.sharded.ray_cluster import Cluster

__all__ = ["BACKENDS", "Backend", "open_backend"]

BACKENDS = ("oracle", "cpu", "kdtree", "gpu")

_log = logging.getLogger(__name__)


def open_backend(
    name: str,
    catalog: Catalog,
    *,
    nn: str = "auto",
    report: Callable[[str, int, int], None] | None = None,
    cluster: Cluster | None = None,
) -> Backend:
    """Open a backend by name: "oracle", "cpu", "kdtree", "gpu", or "auto", the fastest usable one, with a log line.

    "ray" divides the catalog among the nodes or cards of a Ray cluster, `cluster`; None: of this machine.

    nn: the engine for nearest neighbours over codes: "kernel" (the backend's own exact scan), "faiss", or "auto" (also
    the kernel). On a card it also applies to embeddings, where "auto" chooses the engine that was measured to be
    faster. report: called with (stage, done, total) while the gpu backend uploads. Raises UsageError for another name,
    BackendUnavailableError when a package or device is missing, CatalogIndexError when kdtree has no index of the
    catalog's codes, and for "gpu" DeviceError when the card cannot be used, DeviceMemoryError when the codes do not
    fit; for "ray" ShardError, see `open_ray`.
    """
    if nn not in ("auto", "kernel", "faiss"):
        raise UsageError(f"nn: expected one of auto, kernel, faiss, got {nn!r}")
    if name == "auto":
        return _fastest(catalog, nn, report)
    if name == "oracle":
        from gpubranches.engines.oracle import OracleBackend

        return OracleBackend(catalog, nn=nn)
    if name == "cpu":
        from gpubranches.engines.cpu.backend import CpuBackend

        return CpuBackend(catalog, nn=nn)
    if name == "kdtree":
        from gpubranches.engines.kdtree.backend import KdtreeBackend

        return KdtreeBackend(catalog, nn=nn)
    if name == "gpu":
        return _gpu(catalog, nn, report)
    if name == "ray":
        from gpubranches.engines.sharded.ray_cluster import Cluster
        from gpubranches.engines.sharded.ray_shards import open_ray

        return open_ray(catalog, cluster or Cluster(), nn=nn)
    raise UsageError(f"backend: expected one of auto, {', '.join(BACKENDS)}, ray, got {name!r}")


def _fastest(catalog: Catalog, nn: str, report: Callable[[str, int, int], None] | None) -> Backend:
    try:
        backend = _gpu(catalog, nn, report)
    except DeviceError as error:
        # Many machines have no card or no CuPy, so there is no warning.
        level = logging.INFO if isinstance(error, BackendUnavailableError) else logging.WARNING
        _log.log(level, "backend auto: uses cpu, since %s", " ".join(str(error).split()))
        return open_backend("cpu", catalog, nn=nn)
    _log.info("backend auto: uses gpu")
    return backend


def _gpu(catalog: Catalog, nn: str, report: Callable[[str, int, int], None] | None) -> Backend:
    from gpubranches.engines.gpu import GpuBackend
    from gpubranches.engines.gpu.cupy_device import CupyDevice
    from gpubranches.engines.gpu.resident_copy import Residence

    return GpuBackend(catalog, CupyDevice, nn=nn, make_residence=partial(Residence, report=report))
