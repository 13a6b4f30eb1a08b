"""What a text asks for: words, items and pictures, added and subtracted, and the direction they make together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gpubranches.errors import UsageError

IMAGE_WEIGHT = 0.5
"""Weight of an item or a picture beside words: with an equal one its own traits outweigh the name's."""
SUBTRACTED = 0.5
"""Share of the sum along a subtracted term that is taken away."""
MOST_TERMS = 32
LONGEST = 10_000
"""Letters of a query."""
PICTURE_NAME = "[a-z0-9]{10}"
"""Form of the name that a picture gets when it is sent."""

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
    """A picture that was sent before, by the name it got."""

    name: str


Term = Words | Item | Picture
T = TypeVar("T", Words, Item, Picture)


@dataclass(frozen=True)
class Query:
    """Terms that are added, and terms that are subtracted, in the order they stand."""

    added: tuple[Term, ...]
    subtracted: tuple[Term, ...] = ()

    @property
    def single(self) -> Term | None:
        """The one term of a query that has no other, else None."""
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
               | "picture:" name                   a picture that was sent before
               | any other words up to a sign      words

    So "t-shirt" and "black-and-white" are words, and what holds a sign between spaces, or begins with # or picture:,
    needs quotes to be words. Quotes elsewhere are part of the words. Any white space divides words. Raises UsageError
    for an empty term, for another text after # or picture:, for more than 32 terms or 10,000 letters, and where nothing
    is added.
    """
    if len(text) > LONGEST:
        raise UsageError(f"text: expected at most {LONGEST:,} letters, got {len(text):,}")
    tokens = text.split()
    if not tokens:
        raise UsageError("text: expected a word or more, got nothing; type what to look for")
    terms: dict[str, list[Term]] = {"+": [], "-": []}
    at = 0
    while at < len(tokens):
        sign = "+"
        if tokens[at] in _SIGNS:
            sign, at = tokens[at], at + 1
        end = _end(tokens, at)
        if end == at:
            got = repr(tokens[at]) if at < len(tokens) else "the end"
            raise UsageError(f"text: expected a term after {sign}, got {got}; write such as dog + #17 - cat")
        terms[sign].append(_term(" ".join(tokens[at:end])))
        at = end
    if len(terms["+"]) + len(terms["-"]) > MOST_TERMS:
        raise UsageError(f"text: expected at most {MOST_TERMS} terms, got {len(terms['+']) + len(terms['-'])}")
    if not terms["+"]:
        raise UsageError("text: expected a term that is added, got subtracted ones alone; say first what to look for")
    return Query(tuple(terms["+"]), tuple(terms["-"]))


def combine(
    words: NDArray[np.float32], images: NDArray[np.float32], subtracted: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the direction, (D,) float32, of added words and images and of subtracted terms, each (m, D) unit rows.

    The added ones are summed, images at half the weight of words. A subtracted term takes away half of what the sum
    has along it, and nothing where the two point apart: q - sum_i max(0, <q, v_i>) v_i / 2. A fixed weight would have
    to fit both a text, which lies at cosines of .2 to .3 from images, and an image at .7 from its like: where it moves
    one, it turns the other round. All of the share would be orthogonal negation (Widdows, ACL 2003), which leaves
    nothing that the wanted shares with the unwanted. Raises UsageError where nothing is left to look for.
    """
    summed = words.sum(axis=0) + np.float32(IMAGE_WEIGHT) * images.sum(axis=0)
    shares = np.maximum(subtracted @ summed, 0) * np.float32(SUBTRACTED)
    direction: NDArray[np.float32] = (summed - shares @ subtracted).astype(np.float32)
    if not np.linalg.norm(direction) > 1e-6:
        raise UsageError("text: the terms cancel each other out, nothing is left to look for; take one of them away")
    return direction


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows, (m, D), scaled to unit length; a row of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = (rows / np.maximum(lengths, 1e-12)).astype(np.float32)
    return scaled


def of_kind(kind: type[T], terms: Sequence[Term]) -> list[T]:
    """Return the terms of one kind, in their order."""
    return [term for term in terms if isinstance(term, kind)]


def _end(tokens: list[str], at: int) -> int:
    """Return where the term that begins at `at` ends, `at` where there is none."""
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
            raise UsageError("text: expected a word or more between the quotes, got none")
        return Words(text[1:-1].strip())
    if text.startswith("#"):
        if item := _ITEM.fullmatch(text):
            return Item(int(item[1]))
        raise UsageError(
            f'text: expected the id of an item after #, got {text!r:.80}; put words that begin so in "quotes"'
        )
    if text.startswith("picture:"):
        if picture := _PICTURE.fullmatch(text):
            return Picture(picture[1])
        raise UsageError(f'text: expected the name of a picture, got {text!r:.80}; put words that begin so in "quotes"')
    return Words(text)
