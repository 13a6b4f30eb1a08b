"""Building a catalog from files, encoding it anew with another head, and training a head."""

from gpubranches.ingestion.build import IngestReport, append, build_catalog, ingest
from gpubranches.ingestion.relocation import RelocateReport, relocate

__all__ = ["IngestReport", "RelocateReport", "append", "build_catalog", "ingest", "relocate"]
