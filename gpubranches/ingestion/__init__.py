"""Making a catalog and its codes: of pictures or embeddings, anew by another head, and that head."""

from gpubranches.ingestion.build import IngestReport, append, build_catalog, ingest
from gpubranches.ingestion.relocation import RelocateReport, relocate

__all__ = ["IngestReport", "RelocateReport", "append", "build_catalog", "ingest", "relocate"]
