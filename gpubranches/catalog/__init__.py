"""The catalog on disk: three tiers in immutable segments under one atomic manifest. See docs/format.md."""

from gpubranches.catalog.catalog import Catalog
from gpubranches.catalog.manifest import require_code_dims
from gpubranches.catalog.repair import repair
from gpubranches.catalog.segment import SEGMENT_ROWS, Segment
from gpubranches.catalog.segment_rows import ENCODED_ROWS
from gpubranches.catalog.snapshot import Snapshot
from gpubranches.catalog.storage import disk_errors, exclusive
from gpubranches.catalog.tiles import TILE, ZONE, ZONES
from gpubranches.catalog.verify import problems_at

__all__ = [
    "ENCODED_ROWS",
    "SEGMENT_ROWS",
    "TILE",
    "ZONE",
    "ZONES",
    "Catalog",
    "Segment",
    "Snapshot",
    "disk_errors",
    "exclusive",
    "problems_at",
    "repair",
    "require_code_dims",
]
