"""What evaluates models over a catalog: one protocol, several engines, the same answers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from gpubranches.backends.protocol import Backend
from gpubranches.errors import UsageError

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog

__all__ = ["BACKENDS", "Backend", "open_backend"]

BACKENDS = ("oracle", "cpu")

_log = logging.getLogger(__name__)


def open_backend(name: str, catalog: Catalog, *, nn: str = "auto") -> Backend:
    """Open a backend by name: "oracle", "cpu", or "auto", which takes the fastest that is usable and logs why.

    nn: what answers nearest neighbours over codes: "scan", the backend's own exact one, "faiss", or "auto" (scan).
    Raises UsageError for another name, BackendUnavailableError when what it needs is missing.
    """
    if nn not in ("auto", "scan", "faiss"):
        raise UsageError(f"nn: expected one of auto, scan, faiss, got {nn!r}")
    if name == "auto":
        _log.info("backend auto: took cpu, the fastest of %s", ", ".join(BACKENDS))
        name = "cpu"
    if name == "oracle":
        from gpubranches.backends.oracle import OracleBackend

        return OracleBackend(catalog, nn=nn)
    if name == "cpu":
        from gpubranches.backends.cpu import CpuBackend

        return CpuBackend(catalog, nn=nn)
    raise UsageError(f"backend: expected one of auto, {', '.join(BACKENDS)}, got {name!r}")
