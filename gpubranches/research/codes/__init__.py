"""Measurements of codes: codecs side by side on the same items and queries."""

from gpubranches.research.codes.answers import compare_answers
from gpubranches.research.codes.measuring import choose_methods, measure
from gpubranches.research.codes.report import CodesReport
from gpubranches.research.codes.search_task import SearchTask, make_search_task

__all__ = ["CodesReport", "SearchTask", "choose_methods", "compare_answers", "make_search_task", "measure"]
