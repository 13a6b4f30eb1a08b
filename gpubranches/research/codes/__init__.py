"""What the bytes of a code are worth: codecs side by side on the same items and queries."""

from gpubranches.research.codes.answers import compare_answers
from gpubranches.research.codes.ground import Ground, lay_ground
from gpubranches.research.codes.measuring import choose_methods, measure
from gpubranches.research.codes.report import CodesReport

__all__ = ["CodesReport", "Ground", "choose_methods", "compare_answers", "lay_ground", "measure"]
