"""The k best rows of a scan: a cutoff estimated from a sample, one pass that keeps the rows within it, a selection.

The k-th best key of a sample is no better than the k-th best key of all rows. So a pass that keeps every row within
this cutoff loses none of the k best, and keeps about k divided by the sampled share. The kept rows are a few million at
most and never leave the device. Only the ids and keys of the selection are copied to the host, in order and in one
piece with the counts.

All lists of a pass share FIRST_ROOM entries. If a list overflows, the pass has counted all of its rows but kept only
some. Its model is then scanned again (`scan_into_lists`), so device memory does not limit the length of an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isqrt

from gpubranches.catalog import TILE
from gpubranches.engines.gpu.device import DeviceArray
from gpubranches.engines.gpu.launchers import Resident
from gpubranches.engines.gpu.selection import Counts, Cutoff, Lists, TopRows, merged

SAMPLE_FROM = 1 << 20
"""The number of rows from which a sample is scanned first. Scans of fewer rows keep them all."""
FIRST_ROOM = 1 << 25
"""Entries of all lists of a pass, half of WORKING_BYTES."""
_LEAST_ROOM = 1 << 16


@dataclass(frozen=True)
class Span:
    """Tiles of the resident copy, and a bitmap of their allowed rows, (positions / 64,) uint64.

    listed: the number of rows that a scan reads, at most FIRST_ROOM; None for all rows.
    """

    on: Resident
    allowed: DeviceArray
    listed: int | None = None

    @property
    def rows(self) -> int:
        """Number of rows that a scan reads."""
        return self.on.n_tiles * TILE if self.listed is None else self.listed

    def parts(self, count: int) -> list[Span]:
        """Cut into at most `count` spans of whole tiles and of nearly equal length."""
        tiles = self.on.n_tiles
        count = min(count, tiles)
        cuts = [tiles * i // count for i in range(count + 1)]
        return [
            Span(
                replace(self.on, tiles=self.on.tiles[a:b], n_tiles=b - a),
                self.allowed[a * (TILE // 64) : b * (TILE // 64)],
            )
            for a, b in pairwise(cuts)
        ]


Scan = Callable[[Span, Sequence[int], int, DeviceArray], None]
"""Called with (span, models, step, sinks): scan every step-th row, or group of rows, of a span for some models, given
by their numbers, into sinks, (models, SINK_WORDS) uint64."""


@dataclass(frozen=True)
class ScanRequest:
    """The wanted rows of a scan for each model: the `limit` best (all if None) of those with key <= max_key, uint32.

    key_bits: keys are below 2^key_bits. totals: the field of `Counts` that is the number of qualifying rows, "reached"
    or "appended". cuts_ties: whether the scan applies both parts of a cutoff, key and tie key.
    """

    limits: Sequence[int | None]
    max_keys: Sequence[int]
    key_bits: int = 32
    totals: str = "reached"
    cuts_ties: bool = False

    def of(self, counts: Counts) -> list[int]:
        """Return the number of qualifying rows of each model."""
        found: list[int] = getattr(counts, self.totals).tolist()
        return found


def find_top_rows(span: Span, scan: Scan, request: ScanRequest, sample_from: int) -> list[TopRows]:
    """Return the requested best rows of each model.

    sample_from: the least number of rows for which a cutoff is estimated first. No cutoff is estimated if all rows of a
    model are requested, or more rows than there is room for.
    """
    on, rows, n = span.on, span.rows, len(request.max_keys)
    limits = [k for k in request.limits if k is not None]
    step, room = _sample(max(limits, default=0), rows, sample_from)
    if len(limits) < n or room > first_room(rows, n):
        return scan_into_lists(span, scan, request, [Cutoff()] * n)
    lists = Lists.of(on, room, request.max_keys, [Cutoff()] * n, [min(k, room) for k in limits], request.key_bits)
    if step > 1:
        scan(span, range(n), step, lists.sinks)
        lists.keep_to_cutoff(rows // step + 512)
    scan(span, range(n), 1, lists.sinks)
    ranked = lists.ranked() if lists.ranks else None
    counts = ranked.counts if ranked else lists.counts()
    if int(counts.appended.max(initial=0)) <= room:
        return _with_totals(ranked or lists.chosen(counts, ()), request, counts)
    del lists, ranked
    return scan_into_lists(span, scan, request, [Cutoff(key) for key in counts.keys.tolist()])


def first_room(rows: int, lists: int) -> int:
    """Return how many entries each of some lists gets room for, before it is known how many rows qualify.

    A single list gets at least the room of a tile.
    """
    return min(rows, max(FIRST_ROOM // max(lists, 1), TILE if lists == 1 else 1))


def lists_at_once(most: int, rows: int, sample_from: int) -> int:
    """Return the number of models for which `find_top_rows` has memory if each requests `most` rows, at least one."""
    return max(1, FIRST_ROOM // max(_sample(most, rows, sample_from)[1], 1))


def _sample(most: int, rows: int, sample_from: int) -> tuple[int, int]:
    """Return the step of the sample, 1 for no sample, and the room of a list, for the `most` best rows."""
    most = min(rows, most)
    step = 1 if rows < sample_from else max(1, isqrt(rows // max(most, 1)))
    return step, min(rows, _LEAST_ROOM + 2 * max(most * step, rows // step + 512))


def scan_into_lists(
    span: Span, scan: Scan, request: ScanRequest, cutoffs: Sequence[Cutoff], which: Sequence[int] | None = None
) -> list[TopRows]:
    """Scan into lists that share FIRST_ROOM, select from those that did not overflow, and scan again for the others.

    If the scan cuts ties and there is room for twice the requested rows, the best rows of an overflowing list give a
    cutoff for the next pass. The cutoff gets tighter with each pass, and one or two passes suffice. Otherwise half of
    the models are scanned at a time. If a single model overflows, its tiles are scanned in parts, and the answers are
    merged on the host. which: the numbers of the models of this call.
    """
    which = range(len(request.limits)) if which is None else which
    room = first_room(span.rows, len(which))
    limits = [request.limits[i] for i in which]
    most = [room if k is None else min(k, room) for k in limits]
    max_keys = [request.max_keys[i] for i in which]
    lists = Lists.of(span.on, room, max_keys, [cutoffs[i] for i in which], most, request.key_bits)
    scan(span, which, 1, lists.sinks)
    ranked = lists.ranked() if lists.ranks else None
    counts = ranked.counts if ranked else lists.counts()
    appended = counts.appended.tolist()
    overflowed = [at for at, n in enumerate(appended) if n > room and limits[at] != 0]
    new_cutoffs = list(cutoffs)
    tighter = request.cuts_ties and all((k := limits[at]) is not None and 2 * k <= room for at in overflowed)
    if overflowed and tighter:
        found = (ranked or lists).cutoffs()
        for at in overflowed:
            new_cutoffs[which[at]] = found[at]
    answers = _with_totals(ranked or lists.chosen(counts, overflowed), request, counts)
    if not overflowed:
        return answers
    del lists, ranked

    def scan_again(part: Span, models: Sequence[int]) -> list[TopRows]:
        return scan_into_lists(part, scan, request, new_cutoffs, models)

    left = [which[at] for at in overflowed]
    if tighter or len(left) < len(which):
        more = scan_again(span, left)
    else:
        more = _scan_in_parts(span, left, scan_again, 2 + appended[overflowed[0]] // room, limits[overflowed[0]])
    for at, one in zip(overflowed, more, strict=True):
        answers[at] = replace(one, total=answers[at].total)
    return answers


def _with_totals(found: Sequence[TopRows], request: ScanRequest, counts: Counts) -> list[TopRows]:
    """Return the answers with the totals of the scan."""
    return [replace(one, total=total) for one, total in zip(found, request.of(counts), strict=True)]


def _scan_in_parts(
    span: Span,
    models: Sequence[int],
    scan_again: Callable[[Span, Sequence[int]], list[TopRows]],
    parts: int,
    limit: int | None,
) -> list[TopRows]:
    """Scan for half of the models at a time, or for a single model over parts of the span; merge its `limit` best."""
    if len(models) > 1:
        middle = len(models) // 2
        return scan_again(span, models[:middle]) + scan_again(span, models[middle:])
    found = [scan_again(part, models)[0] for part in span.parts(parts)]
    return [merged([(one.ids, one.keys) for one in found], limit)]
