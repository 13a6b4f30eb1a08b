"""Queries as text: words, items and pictures, added and subtracted, and their combination into one direction."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gpubranches.errors import UsageError

IMAGE_WEIGHT = 0.5
"""Weight of an item or a picture relative to words. With equal weights its own traits would outweigh the words."""
SUBTRACTED = 0.5
"""The share of the sum's component along a subtracted term that is removed."""
MOST_TERMS = 32
LONGEST = 1_000
"""The largest number of characters of a query."""
PICTURE_NAME = "[a-z0-9]{10}"
"""Pattern of the name that an uploaded picture gets."""

_SIGNS = ("+", "-")
_ITEM = re.compile(r"#([0-9]{1,18})")
_PICTURE = re.compile(f"picture:({PICTURE_NAME})")


@dataclass(frozen=True)
class Words:
    """A text for the embedder."""

    text: str


@dataclass(frozen=True)
class Item:
    """An item of the catalog, by its id."""

    id: int


@dataclass(frozen=True)
class Picture:
    """An uploaded picture, by its name."""

    name: str


Term = Words | Item | Picture
T = TypeVar("T", Words, Item, Picture)


@dataclass(frozen=True)
class Query:
    """The added and the subtracted terms, each in their order."""

    added: tuple[Term, ...]
    subtracted: tuple[Term, ...] = ()

    @property
    def single(self) -> Term | None:
        """The only term of a query, or None if it has several."""
        return self.added[0] if len(self.added) == 1 and not self.subtracted else None

    @property
    def terms(self) -> tuple[Term, ...]:
        """All terms, the added ones first."""
        return self.added + self.subtracted


def parse(text: str) -> Query:
    """Read a query such as `dog + #17 - "black - white"`.

        query  = [sign] term {sign term}
        sign   = "+" | "-", a word of its own
        term   = `"` words that hold no `"` `"`    words as they are
               | "#" digits                        an item
               | "picture:" name                   an uploaded picture
               | any other words up to a sign      words

    So "t-shirt" and "black-and-white" are words. Words that contain a sign between spaces, or begin with # or picture:,
    need quotes. All other quotes are part of the words. Any white space separates words. Raises UsageError for an empty
    term, for another text after # or picture:, for more than 32 terms or 1,000 letters, and if no term is added.
    """
    signed = _signed_terms(text)
    added = tuple(term for sign, term, _ in signed if sign == "+")
    subtracted = tuple(term for sign, term, _ in signed if sign == "-")
    if len(signed) > MOST_TERMS:
        refused = UsageError(f"text: expected at most {MOST_TERMS} terms, got {len(signed)}")
        raise refused.because("query-terms", most=MOST_TERMS, count=len(signed))
    if not added:
        refused = UsageError("text: expected an added term, got only subtracted ones; name first what to look for")
        raise refused.because("query-subtracted")
    return Query(added, subtracted)


@dataclass(frozen=True)
class WrittenTerm:
    """A term of a query as it was written.

    sign: "+" or "-"; text: as written, without the sign; others: the query without this term, "" if the other terms are
    no valid query.
    """

    sign: str
    term: Term
    text: str
    others: str


def written_terms(text: str) -> list[WrittenTerm]:
    """Return the terms of a query in the order they were written. Raises UsageError as `parse` does."""
    parse(text)
    signed = _signed_terms(text)
    found = []
    for at, (sign, term, written) in enumerate(signed):
        rest = signed[:at] + signed[at + 1 :]
        others = " ".join(f"{other} {words}" for other, _, words in rest).removeprefix("+ ")
        found.append(WrittenTerm(sign, term, written, others if _reads_as(others, rest) else ""))
    return found


def combine(
    words: NDArray[np.float32], images: NDArray[np.float32], subtracted: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Combine added words and images and subtracted terms, each (m, D) unit rows, into one direction, (D,) float32.

    Added terms are summed, images with half the weight of words. A subtracted term removes half of the component of the
    sum along it, and nothing if that component is negative: q - sum_i max(0, <q, v_i>) v_i / 2. A fixed weight cannot
    fit both a text, whose cosines with images are .2 to .3, and an image, whose cosines with similar images are .7: a
    weight that suits one would reverse the other. Removing the whole component would be orthogonal negation (Widdows,
    ACL 2003), which also removes what wanted and unwanted items have in common. Raises UsageError if the terms cancel.
    """
    summed = words.sum(axis=0) + np.float32(IMAGE_WEIGHT) * images.sum(axis=0)
    shares = np.maximum(subtracted @ summed, 0) * np.float32(SUBTRACTED)
    direction: NDArray[np.float32] = (summed - shares @ subtracted).astype(np.float32)
    if not np.linalg.norm(direction) > 1e-6:
        raise UsageError(
            "text: the terms cancel each other out, and nothing is left to search for; remove one of them"
        ).because("query-cancelled")
    return direction


def of_kind(kind: type[T], terms: Sequence[Term]) -> list[T]:
    """Return the terms of one class, in their order."""
    return [term for term in terms if isinstance(term, kind)]


def _signed_terms(text: str) -> list[tuple[str, Term, str]]:
    """Return sign, term and written text of each term."""
    if len(text) > LONGEST:
        refused = UsageError(f"text: expected at most {LONGEST:,} letters, got {len(text):,}")
        raise refused.because("query-long", most=LONGEST, count=len(text))
    tokens = text.split()
    if not tokens:
        raise UsageError("text: expected a word or more, got nothing; type what to look for").because("query-empty")
    terms: list[tuple[str, Term, str]] = []
    at = 0
    while at < len(tokens):
        sign = "+"
        if tokens[at] in _SIGNS:
            sign, at = tokens[at], at + 1
        end = _end(tokens, at)
        if end == at:
            got = repr(tokens[at]) if at < len(tokens) else "the end"
            refused = UsageError(f"text: expected a term after {sign}, got {got}; write, for example, dog + #17 - cat")
            raise refused.because("query-term", sign=sign)
        written = " ".join(tokens[at:end])
        terms.append((sign, _term(written), written))
        at = end
    return terms


def _reads_as(text: str, signed: list[tuple[str, Term, str]]) -> bool:
    """Return whether a text is a query of these terms; an unpaired quote may have joined two of them."""
    try:
        parse(text)
    except UsageError:
        return False
    return _signed_terms(text) == signed


def _end(tokens: list[str], at: int) -> int:
    """Return the end of the term that begins at `at`; `at` if there is none."""
    if at < len(tokens) and tokens[at].startswith('"'):
        holding = (end for end in range(at, len(tokens)) if '"' in tokens[end][end == at :])
        closing = next(holding, len(tokens)) + 1
        if _quoted(" ".join(tokens[at:closing])) and (closing >= len(tokens) or tokens[closing] in _SIGNS):
            return closing
    return next((end for end in range(at, len(tokens)) if tokens[end] in _SIGNS), len(tokens))


def _quoted(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] == '"' and '"' not in text[1:-1]


def _term(text: str) -> Term:
    if _quoted(text):
        if not text[1:-1].strip():
            raise UsageError("text: expected a word or more between the quotes, got none").because("query-empty")
        return Words(text[1:-1].strip())
    if text.startswith("#"):
        if item := _ITEM.fullmatch(text):
            return Item(int(item[1]))
        raise UsageError(
            f'text: expected the id of an item after #, got {text!r:.80}; put words that begin so in "quotes"'
        ).because("query-item", text=text[:80])
    if text.startswith("picture:"):
        if picture := _PICTURE.fullmatch(text):
            return Picture(picture[1])
        raise UsageError(
            f'text: expected the name of a picture, got {text!r:.80}; put words that begin so in "quotes"'
        ).because("query-picture")
    return Words(text)
