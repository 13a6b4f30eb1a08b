"""The sentences about an answer and an item that the page, the API and the command line share, as plain text."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gpubranches.catalog.metadata.columns import caption_of
from gpubranches.errors import UsageError
from gpubranches.retrieval.queries import Item, Picture, parse
from gpubranches.service.texts import Texts, texts_in

if TYPE_CHECKING:
    from gpubranches.core.results import Interval, Ranking
    from gpubranches.retrieval.explain import Explanation
    from gpubranches.service.target import Step

UNKNOWN_WIDTH = 0.5
"""If the interval of a share is wider than this, the share is called unknown, and no middle is told."""
HARDLY_ANY, HARDLY_ANY_SHARE = 3, 0.1
"""So many items, or so large a share of the right ones, are "hardly any" where most likely none is missing."""
_FILE_COLUMNS = ("path", "image_path", "file", "url")


def matches_heading(texts: Texts, total: int, changes: tuple[int, int] | None = None) -> str:
    """Return a heading with the number of matches.

    changes: how many of them are new since the round before, and how many are gone; None in the first round.
    """
    if changes is None:
        return texts("matches-heading", count=total)
    return texts("matches-heading-changed", count=total, new=changes[0], gone=changes[1])


def since_found(texts: Texts, joined: int, left: int) -> str:
    """Return the changes by marks since a find all in words, or "" for none."""
    return texts("since-found", joined=joined, left=left) if joined or left else ""


def new_marks(texts: Texts, count: int) -> str:
    """Return how many marks the model has not learnt from, "" for none."""
    return texts("new-marks", count=count) if count else ""


def run_summary(texts: Texts, ranking: Ranking) -> str:
    """Return how an answer was computed: candidates, stages and milliseconds."""
    candidates = texts("candidates", count=ranking.candidates)
    time = texts("milliseconds", time=ranking.timings_ms.get("total", 0.0))
    return " · ".join(part for part in (candidates, ranking.source, time) if part)


def intervals(texts: Texts, ranking: Ranking) -> str:
    """Return precision and recall with their 90% intervals, a wide one without its middle; "" if none is estimated."""
    parts = []
    if ranking.precision is not None:
        low, middle, high = _middle_if_known(ranking.precision)
        parts.append(texts("precision", low=low, middle=middle, high=high))
    if ranking.recall is not None:
        low, middle, high = _middle_if_known(ranking.recall)
        parts.append(texts("recall", low=low, middle=middle, high=high))
    return ", ".join(parts)


def completeness_in_words(texts: Texts, ranking: Ranking, checked: bool = False) -> str:
    """Return how many matches are right and how many items are missing, each with its range.

    The numbers follow from the 90% intervals of precision and recall. Middles are rounded to two digits, lower ends
    down and upper ends up, so that a range never looks narrower than it is. Return "" if one is not estimated. checked:
    whether random items were checked already, so that it takes more of them where a number is unknown.
    """
    if ranking.precision is None or ranking.recall is None:
        return ""
    total, (low, middle, high) = ranking.total, ranking.precision
    right = middle * total
    rounded = min(_two_digits(right), total)
    found = texts(
        "right-of",
        right="unknown" if _is_unknown(ranking.precision) else "all" if rounded == total else rounded,
        count=total,
        low=_two_digits(low * total, math.floor),
        high=min(_two_digits(high * total, math.ceil), total),
    )
    if _is_unknown(ranking.recall) or _is_unknown(ranking.precision):
        return texts("missing-unknown", found=found, checked=str(checked))
    most, missing, least = (right / max(share, 1e-6) - right for share in ranking.recall)
    none_likely: int | str = 0 if most <= max(HARDLY_ANY, HARDLY_ANY_SHARE * right) else "few"
    return texts(
        "missing",
        found=found,
        missing=none_likely if missing < 0.5 else max(_two_digits(missing), 1),
        low=_two_digits(least, math.floor),
        high=_two_digits(most, math.ceil),
    )


def share_found(texts: Texts, recall: Interval | None) -> str:
    """Return the lower end of an interval of recall in words; None: nothing is known."""
    low = "unknown" if recall is None or _is_unknown(recall) else recall[0]
    return texts("share-found", low=low)


def step_in_words(texts: Texts, step: Step, target: float) -> str:
    """Return a step towards a target in words: the state of the answer, and what to do with the step's items."""
    kind = step.kind if step.done else "mark" if step.checks is None else "check"
    return texts("step", kind=kind, known=share_found(texts, step.recall), checks=step.checks or 0, target=target)


def reason(texts: Texts, explanation: Explanation) -> str:
    """Return why an item is in the answer or is not, in a sentence for users.

    It calls an estimator a quick look, and the second stage a closer look.
    """
    if explanation.mark:
        return texts("why-marked", mark=explanation.mark)
    count, votes, outcome = explanation.n_estimators, explanation.votes, explanation.outcome
    looks = texts("why-looks", count=count, votes=votes)
    told = "vote" if outcome == "votes" and count == 1 else outcome
    why = texts("why-reason", outcome=told, looks=looks, needed=explanation.needed)
    return texts("why-found", reason=why) if explanation.found else texts("why-not-found", reason=why)


def verdict(texts: Texts, explanation: Explanation) -> str:
    """Return why an item is in the answer or is not, in numbers."""
    votes = texts(
        "why-votes",
        outcome=explanation.outcome,
        votes=explanation.votes,
        count=explanation.n_estimators,
        needed=explanation.needed,
        score=explanation.score or 0.0,
        threshold=explanation.threshold or 0.0,
    )
    if explanation.mark:
        outcome = "marked-right" if explanation.mark > 0 else "marked-wrong"
    elif explanation.matched is None:
        return votes
    else:
        outcome = "matches" if explanation.matched else "other"
    return f"{votes} {texts('why-outcome', outcome=outcome)}"


def explanation_to_json(explanation: Explanation) -> dict[str, Any]:
    """Return an explanation as plain values, with its reason and its verdict in English."""
    english = texts_in()
    told = {"reason": reason(english, explanation), "verdict": verdict(english, explanation)}
    return {**explanation.to_json(), **told}


def caption(texts: Texts, item: dict[str, Any]) -> str:
    """Return a caption for an item: its caption or label, else the name of its file, else its id."""
    words = caption_of(item)
    if words is not None:
        return words
    for column in _FILE_COLUMNS:
        if isinstance(item.get(column), str) and item[column]:
            return str(item[column]).rsplit("/", 1)[-1]
    return texts("item", id=str(item["id"]))


def query_in_words(texts: Texts, query: str | int) -> str:
    """Return the words for a query in headings and in the list of sessions."""
    if isinstance(query, str):
        single = parse(query).single
        if isinstance(single, Picture):
            return texts("your-picture")
        if not isinstance(single, Item):
            return query
        query = single.id
    return texts("like-item", id=str(query))


def session_title(texts: Texts, name: str, asked: str, number: int) -> str:
    """Return the title of a session: its name, else its first query `asked` with its number from 2 on, else ""."""
    if name or not asked:
        return name
    try:
        title = query_in_words(texts, asked)
    except UsageError:  # a first query that came with a file
        title = asked
    return title if number == 1 else f"{title} ({number})"


def _is_unknown(share: Interval) -> bool:
    return share[2] - share[0] > UNKNOWN_WIDTH


def _middle_if_known(share: Interval) -> tuple[float, float | str, float]:
    return (share[0], "unknown", share[2]) if _is_unknown(share) else share


def _two_digits(number: float, rounded: Callable[[float], int] = round) -> int:
    """Return a number rounded to two digits by a function such as `math.floor`, and to a whole one."""
    unit: int = 10 ** max(0, math.floor(math.log10(max(number, 1))) - 1)
    return rounded(round(number / unit, 9)) * unit
