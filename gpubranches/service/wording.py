"""The sentences about an answer and an item that the page and the command line both print, as plain text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from gpubranches.catalog.metadata.columns import caption_of
from gpubranches.retrieval.queries import Item, Picture, parse

if TYPE_CHECKING:
    from gpubranches.core.results import Interval, Ranking
    from gpubranches.service.target import Step

UNKNOWN_WIDTH = 0.5
"""From this width of the interval of recall on, the number of missing items is called unknown."""
_NAME_LENGTH = 60
_FILE_COLUMNS = ("path", "image_path", "file", "url")


def matches_heading(total: int, changes: tuple[int, int] | None = None) -> str:
    """Return a heading with the number of matches.

    changes: how many of them are new since the round before, and how many are gone; None in the first round.
    """
    heading = "1 matches" if total == 1 else f"{total:,} match"
    return heading if changes is None else f"{heading} ({changes[0]:,} new, {changes[1]:,} gone)"


def since_found(joined: int, left: int) -> str:
    """Return what marks changed of the matches since a find all, "" for nothing."""
    parts = [f"+{joined:,}"] * bool(joined) + [f"-{left:,}"] * bool(left)
    return " ".join([*parts, "since Find all"]) if parts else ""


def new_marks(count: int) -> str:
    """Return how many marks the model has not learnt from, "" for none."""
    return f"{count:,} new mark{'' if count == 1 else 's'}" if count else ""


def file_name(query: str, part: str, count: int) -> str:
    """Return the name of an exported file, without its ending: the query, the part unless it is "all", the count."""
    words = "-".join(re.findall(r"[^\W_]+", query.lower()))[:_NAME_LENGTH].strip("-")
    return "-".join([words or "matches", *([] if part == "all" else [part]), str(count)])


def run_summary(ranking: Ranking) -> str:
    """Return how an answer was computed: candidates, stages and milliseconds."""
    parts = [f"{ranking.candidates:,} candidates", ranking.source, f"{ranking.timings_ms.get('total', 0):,.0f} ms"]
    return " · ".join(part for part in parts if part)


def intervals(ranking: Ranking) -> str:
    """Return precision and recall with their 90% intervals, "" if neither is estimated."""
    named = (("precision", ranking.precision), ("recall", ranking.recall))
    parts = [f"{name} {e[1]:.0%} ({e[0]:.0%} to {e[2]:.0%})" for name, e in named if e is not None]
    return ", ".join(parts)


def completeness_in_words(ranking: Ranking) -> str:
    """Return how many matches are right and how many items are missing, by the middles, rounded to two digits.

    Return "" if precision or recall is not estimated.
    """
    if ranking.precision is None or ranking.recall is None:
        return ""
    right = ranking.precision[1] * ranking.total
    missing = right / max(ranking.recall[1], 1e-6) - right
    many = "nearly all" if right > ranking.total - 0.5 else f"about {min(_two_digits(right), ranking.total):,}"
    found = f"{many} of the {ranking.total:,} are right"
    if ranking.recall[2] - ranking.recall[0] > UNKNOWN_WIDTH:
        return f"{found}; how many are missing is not known yet"
    if missing < 0.5:
        return f"{found}, and hardly any are missing"
    return f"{found}, and about {_two_digits(missing):,} more {'is' if missing < 1.5 else 'are'} missing"


def share_found(recall: Interval | None) -> str:
    """Return what the lower end of an interval of recall says; None: nothing is known."""
    low, _, high = (0.0, 0.0, 1.0) if recall is None else recall
    return f"at least {low:.0%} are found" if high - low <= UNKNOWN_WIDTH else "how many are found is not known yet"


def step_in_words(step: Step, target: float) -> str:
    """Return what a step towards a target says of the answer, and what to do with its items."""
    known = share_found(step.recall)
    if step.kind == "reached":
        return f"{known.capitalize()}, nine times in ten. Random items show that hardly anything else is missing."
    if step.kind == "alike":
        return (
            f"Of what resembles your marks {known}, nine times in ten. Whether anything else is right is not known: to "
            f"show that it is not takes {step.checks:,} random items."
        )
    if step.kind == "exhausted":
        return f"Nothing is left to mark: {known}."
    if step.checks is not None:
        return (
            f"So far {known} of what resembles your marks. These are random items: {step.checks:,} without a right one "
            f"show that hardly anything else is missing. Mark them, then press Find {target:.0%} again."
        )
    return f"So far {known}. Mark these right or wrong, then press Find {target:.0%} again."


def caption(item: dict[str, Any]) -> str:
    """Return a caption for an item: its caption or label, else the name of its file, else its id."""
    words = caption_of(item)
    if words is not None:
        return words
    for column in _FILE_COLUMNS:
        if isinstance(item.get(column), str) and item[column]:
            return str(item[column]).rsplit("/", 1)[-1]
    return f"item {item['id']}"


def query_in_words(query: str | int) -> str:
    """Return what a query is called in a heading and in a list of sessions."""
    if isinstance(query, str):
        single = parse(query).single
        if isinstance(single, Picture):
            return "Your picture"
        if not isinstance(single, Item):
            return query
        query = single.id
    return f"Like item {query}"


def _two_digits(number: float) -> int:
    return round(float(f"{number:.2g}"))
