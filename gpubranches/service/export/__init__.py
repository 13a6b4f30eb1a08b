"""Files of what was found: matched items and boxes, in formats that other programs read."""

from gpubranches.service.export.formats import BOX_FORMATS, FORMATS, Format, export_matches, format_of
from gpubranches.service.export.matches import Matches

__all__ = ["BOX_FORMATS", "FORMATS", "Format", "Matches", "export_matches", "format_of"]
