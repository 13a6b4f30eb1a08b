"""Export of matched items and boxes, in formats that other programs read."""

from gpubranches.service.export.formats import (
    BOX_FORMATS,
    FORMATS,
    Format,
    export_items,
    file_name,
    format_of,
    formats_of,
)
from gpubranches.service.export.item_table import ItemTable

__all__ = ["BOX_FORMATS", "FORMATS", "Format", "ItemTable", "export_items", "file_name", "format_of", "formats_of"]
