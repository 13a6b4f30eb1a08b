"""The plan of an ingest or append: what is new against the catalog, or why the input is refused."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from gpubranches.catalog.pictures.images import moved
from gpubranches.core.files import spelled
from gpubranches.errors import UsageError
from gpubranches.ingestion.inputs import Input, PlannedPiece
from gpubranches.ingestion.records import IngestHistory, InputComparison

Plan = list[tuple[Input, list[PlannedPiece]]]
_NAMED = 4
_OPTIONS = {
    "embedder": "--embedder",
    "head": "--head",
    "dims": "--dims",
    "quantizer": "--quantizer",
    "embeddings": "--no-embeddings",
}


def is_begun(known: IngestHistory) -> bool:
    """Return whether a catalog holds any rows; an ingest that was stopped before its first rows can start again."""
    return known.catalog.next_id > 0 or "made_with" not in known.catalog.source


def plan_ingest(
    known: IngestHistory, found: Sequence[Input], made_with: dict[str, Any], stopped: bool
) -> tuple[Plan, int | None]:
    """Return the plan of an ingest into an existing catalog, and the stopped run that it resumes, or None.

    made_with: the present options. Raises UsageError unless the catalog was made of these inputs in their present state
    and with these options. Pictures that could not be read, and were repaired, are in the plan.
    """
    catalog = known.catalog
    if "made_with" not in catalog.source:
        raise UsageError(
            f"{catalog.path}: holds a catalog without a record of its inputs; append to it, or choose another folder"
        )
    going_on = (known.unfinished or stopped) and len(known.records) == 1 and known.is_last(found)
    compared = [] if going_on else [known.compare(each) for each in found]
    gone = [] if going_on else known.gone(found)
    if gone or any(each.new or each.left or each.changed for each in compared):
        paths = ", ".join(catalog.source["inputs"][0]["paths"])
        raise UsageError(
            f"{catalog.path}: holds a catalog of other input, of {paths}: {_difference(known, compared, gone)}"
        )
    before = catalog.source["made_with"]
    other = [option for name, option in _OPTIONS.items() if before.get(name) != made_with[name]]
    if other:
        raise UsageError(
            f"{catalog.path}: holds a catalog of other input or options: this input, made with another "
            f"{' and '.join(other)}; choose another folder, or rebuild its codes by encode"
        )
    if going_on:
        return _rest(known, found), 0
    return [(each.input, each.fresh()) for each in compared], None


def plan_append(
    known: IngestHistory, found: Sequence[Input], new: bool, stopped: bool
) -> tuple[Plan, int | None, list[str]]:
    """Return the plan of an append, the stopped run that it resumes, or None, and messages for the user.

    new: whether only new files are wanted; files of deleted items are not new. If False, raises UsageError if any part
    of the input is in the catalog; an input whose items were all deleted is not.
    """
    _require_unmoved(known, found)
    if (known.unfinished or stopped) and known.is_last(found):
        return _rest(known, found), len(known.records) - 1, []
    compared = [known.compare(each) for each in found]
    if not new:
        if any(each.copied or known.is_there(each.input) for each in compared):
            raise UsageError(f"{known.catalog.path}: {_present(known, compared)}")
        return [(each, [(piece, 0) for piece in each.pieces]) for each in found], None, []
    told = []
    for each in compared:
        path, fresh = spelled(each.input.path), [piece.name for piece, _ in each.fresh()]
        told.append(f"{path}: {_count(fresh, each.input.what, 'is', 'are')} new{': ' + _some(fresh) if fresh else ''}")
        if each.copied:
            told.append(f"{path}: {_copy(known, each)}")
        if each.changed:
            told.append(f"{path}: {_changed(known, each)}")
    return [(each.input, each.fresh()) for each in compared], None, told


def _rest(known: IngestHistory, found: Sequence[Input]) -> Plan:
    """Return what is left of the plan of the last run; nothing if it is complete."""
    if not known.unfinished:
        return []
    starts = iter(past.start for past in known.records[-1].pieces)
    return [(each, [(piece, next(starts)) for piece in each.pieces]) for each in found]


def _difference(known: IngestHistory, compared: Sequence[InputComparison], gone: Sequence[str]) -> str:
    """Return how the present input differs from the one of a catalog, and what to do."""
    told, advice = [], []
    for each in compared:
        fresh = [piece.name for piece, _ in each.fresh()]
        if each.copied:
            return _copy(known, each)
        if each.changed:
            told.append(_changed(known, each))
        if fresh:
            told.append(f"{_count(fresh, each.input.what, 'is', 'are')} not in it ({_some(fresh)})")
            words = ["gpubranches", "append", spelled(str(known.catalog.path)), spelled(each.input.path)]
            words += [] if len(fresh) == len(each.input.pieces) else ["--new"]
            advice.append(f"add what is new by `{shlex.join(words)}`")
    if gone:
        told.append(
            f"{_count(gone, '', 'is', 'are')} in it and not in the input ({_some(map(os.path.basename, gone))})"
        )
    return f"{'; '.join(told)}; {', '.join([*advice, 'or choose another folder'])}"


def _present(known: IngestHistory, compared: Sequence[InputComparison]) -> str:
    """Return which parts of an input are in a catalog already, and what to do."""
    told, some_new = [], False
    for each in compared:
        path, what = spelled(each.input.path), each.input.what
        if each.copied:
            told.append(f"{path}: {_copy(known, each)}")
            continue
        fresh, there = [piece.name for piece, _ in each.fresh()], len(each.same) + len(each.changed) + len(each.left)
        some_new |= bool(fresh)
        if there or each.mended:
            said = f"of {path}, {there:,} of {len(each.input.pieces):,} {what} are in the catalog already"
            told.append(f"{said}, {_count(fresh, what, 'is', 'are')} new" + (f" ({_some(fresh)})" if fresh else ""))
        if each.changed:
            told.append(_changed(known, each))
    way = "pass --new to add only those that are new" if some_new else "nothing was added"
    return f"{'; '.join(told)}; {way}"


def _changed(known: IngestHistory, each: InputComparison) -> str:
    pasts = [known.pieces[piece.place] for piece, _ in each.changed]
    ids = [_span(past.first_id, past.first_id + past.taken - 1) for past in pasts]
    changed = _count(each.changed, each.input.what, "has", "have")
    names = _some(name for _, name in each.changed)
    return (
        f"{changed} changed since ({names}; ids {_some(ids)}), whose items stay as they were: to ingest the present "
        "content, delete them and append with --new"
    )


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"


def _copy(known: IngestHistory, each: InputComparison) -> str:
    path, old = spelled(each.input.path), spelled(each.copied)
    if os.path.exists(each.copied):
        return f"{path} holds the same as {old}, which is in the catalog already"
    words = ("gpubranches", "relocate", spelled(str(known.catalog.path)), old, path)
    return f"{path} holds what {old} held, which is in the catalog; if it was moved, run `{shlex.join(words)}`"


def _require_unmoved(known: IngestHistory, found: Sequence[Input]) -> None:
    """Raise UsageError for an input at the old place of moved pictures: their paths could not be distinguished."""
    for each in found:
        now = moved(known.catalog.source, each.path)
        if now != each.path:
            raise UsageError(
                f"{spelled(each.path)}: pictures of the catalog were there before they moved to {spelled(now)}; give "
                "the new folder another name"
            )


def _count(names: Sequence[object], what: str, one: str, many: str) -> str:
    count = len(names)
    verb = one if count == 1 else many
    return f"{count:,} {what.removesuffix('s') if count == 1 else what} {verb}".replace("  ", " ")


def _some(names: Iterable[str]) -> str:
    shown = [spelled(name) for name in names]
    more = f" and {len(shown) - _NAMED:,} more" if len(shown) > _NAMED else ""
    return ", ".join(shown[:_NAMED]) + more
