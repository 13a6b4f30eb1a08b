"""Parts of an input: the rows of one shard, and the evenly spaced rows for fitting a codec."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from gpubranches.catalog import ENCODED_ROWS
from gpubranches.catalog.codec import FIT_ROWS
from gpubranches.core.arrays import evenly_spaced
from gpubranches.errors import UsageError
from gpubranches.ingestion.pieces import Piece
from gpubranches.ingestion.protocol import Input


@dataclass(frozen=True)
class Shard:
    """One of `of` parts of an input; parts are numbered from 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the shard of a text such as 2/4. Raises UsageError for an invalid text."""
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        number, of = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= number <= of:
            raise UsageError(f"shard: expected i/n with i from 1 to n, such as 2/4, got {text!r:.40}")
        return cls(number, of)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def rows(self, n: int) -> tuple[int, int]:
        """Return the first row of this shard of n rows, and the row after its last.

        If each shard has `ENCODED_ROWS` rows or more, all begin at a multiple of it. The same rows are then encoded
        together as without shards, so that codes are equal to the last bit.
        """
        block = ENCODED_ROWS if n >= self.of * ENCODED_ROWS else 1
        first, stop = (number * n // self.of // block * block for number in (self.number - 1, self.number))
        return first, n if self.number == self.of else stop

    def cut(self, inputs: Sequence[Input]) -> tuple[list[Input], int]:
        """Return the inputs with the (parts of) pieces of this shard, and the number of its first row.

        Raises UsageError if there are fewer rows than shards.
        """
        n = sum(piece.rows for each in inputs for piece in each.pieces)
        if n < self.of:
            raise UsageError(f"shard: expected at most as many shards as rows, {n:,}, got {self.of:,}")
        first, stop = self.rows(n)
        cut, at = [], 0
        for each in inputs:
            kept = []
            for piece in each.pieces:
                low, high = max(first - at, 0), min(stop - at, piece.rows)
                if low < high:
                    kept.append(_part(piece, low, high))
                at += piece.rows
            cut.append(replace(each, pieces=tuple(kept)))
        return cut, first


def sampled(inputs: Sequence[Input]) -> list[Input]:
    """Return the inputs with `FIT_ROWS` evenly spaced rows, each a piece, or with all rows if there are fewer."""
    n = sum(piece.rows for each in inputs for piece in each.pieces)
    if n <= FIT_ROWS:
        return list(inputs)
    wanted = evenly_spaced(n, FIT_ROWS)
    cut, at = [], 0
    for each in inputs:
        kept = []
        for piece in each.pieces:
            own = wanted[np.searchsorted(wanted, at) : np.searchsorted(wanted, at + piece.rows)] - at
            kept += [_part(piece, row, row + 1) for row in own.tolist()]
            at += piece.rows
        cut.append(replace(each, pieces=tuple(kept)))
    return cut


def _part(piece: Piece, start: int, stop: int) -> Piece:
    whole = piece.whole and (start, stop) == (0, piece.rows)
    return replace(piece, start=start, rows=stop, whole=whole)
