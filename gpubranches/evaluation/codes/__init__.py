"""What the bytes of a code are worth: codecs side by side on the same items and queries."""

from gpubranches.evaluation.codes.answers import compare_answers
from gpubranches.evaluation.codes.ground import Ground, lay_ground
from gpubranches.evaluation.codes.measuring import choose_methods, measure
from gpubranches.evaluation.codes.report import CodesReport

__all__ = ["CodesReport", "Ground", "choose_methods", "compare_answers", "lay_ground", "measure"]
