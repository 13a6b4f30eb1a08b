"""Making a catalog and its codes: of pictures or embeddings, anew by another head, and that head."""

from gpubranches.ingest.building import IngestReport, append, ingest

__all__ = ["IngestReport", "append", "ingest"]
