"""How well answers are found: a simulated user on a labelled catalog, models side by side on the same draws."""

from gpubranches.evaluation.comparison import Comparison, evaluate
from gpubranches.evaluation.measures import average_precision, best_f1, f1
from gpubranches.evaluation.pages import first_pages
from gpubranches.evaluation.protocol import Concept, Draw, World, find_concepts
from gpubranches.evaluation.report import Report
from gpubranches.evaluation.rounds import play_rounds

__all__ = [
    "Comparison",
    "Concept",
    "Draw",
    "Report",
    "World",
    "average_precision",
    "best_f1",
    "evaluate",
    "f1",
    "find_concepts",
    "first_pages",
    "play_rounds",
]
