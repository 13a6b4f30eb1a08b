"""Measurements of answers: a simulated user on a labelled catalog, models side by side on the same draws."""

from gpubranches.research.quality.comparison import Comparison, evaluate
from gpubranches.research.quality.concepts import Concept, find_concepts
from gpubranches.research.quality.labelled_catalog import Draw, LabelledCatalog
from gpubranches.research.quality.measures import average_precision, best_f1, f1
from gpubranches.research.quality.pages import first_pages
from gpubranches.research.quality.report import Report
from gpubranches.research.quality.rounds import play_rounds

__all__ = [
    "Comparison",
    "Concept",
    "Draw",
    "LabelledCatalog",
    "Report",
    "average_precision",
    "best_f1",
    "evaluate",
    "f1",
    "find_concepts",
    "first_pages",
    "play_rounds",
]
