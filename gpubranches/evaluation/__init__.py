"""How well answers are found: a simulated user on a labelled catalog, models side by side on the same draws."""

from gpubranches.evaluation.measures import average_precision, best_f1, f1
from gpubranches.evaluation.protocol import Concept, Draw, World, find_concepts
from gpubranches.evaluation.report import Evaluation, evaluate, first_pages

__all__ = [
    "Concept",
    "Draw",
    "Evaluation",
    "World",
    "average_precision",
    "best_f1",
    "evaluate",
    "f1",
    "find_concepts",
    "first_pages",
]
