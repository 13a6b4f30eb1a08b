"""The catalog on disk: three tiers in immutable segments under one atomic manifest. See docs/format.md."""

from gpubranches.catalog.catalog import Catalog
from gpubranches.catalog.order import TILE, ZONE, ZONES
from gpubranches.catalog.segment import SEGMENT_ROWS, Segment
from gpubranches.catalog.storage import disk_errors, exclusive

__all__ = ["SEGMENT_ROWS", "TILE", "ZONE", "ZONES", "Catalog", "Segment", "disk_errors", "exclusive"]
