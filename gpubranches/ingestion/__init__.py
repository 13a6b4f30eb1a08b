"""Building a catalog from files, encoding it again with another head, and training a head."""

from gpubranches.ingestion.build import IngestReport, append, build_catalog, ingest
from gpubranches.ingestion.options import IngestOptions
from gpubranches.ingestion.relocation import RelocateReport, relocate
from gpubranches.ingestion.synchronization import SyncReport, sync, watch

__all__ = [
    "IngestOptions",
    "IngestReport",
    "RelocateReport",
    "SyncReport",
    "append",
    "build_catalog",
    "ingest",
    "relocate",
    "sync",
    "watch",
]
