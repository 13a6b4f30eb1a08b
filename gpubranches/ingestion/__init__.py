"""Making a catalog and its codes: of pictures or embeddings, anew by another head, and that head."""

from gpubranches.ingestion.building import IngestReport, append, ingest
from gpubranches.ingestion.relocating import RelocateReport, relocate

__all__ = ["IngestReport", "RelocateReport", "append", "ingest", "relocate"]
