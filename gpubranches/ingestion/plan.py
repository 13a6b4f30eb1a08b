"""The plan of an ingest or append: what is new compared with the catalog, or why the input is refused."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from gpubranches.catalog.pictures.image_files import present_path
from gpubranches.core import stores
from gpubranches.core.files import escaped_path
from gpubranches.errors import UsageError
from gpubranches.ingestion.pieces import PlannedPiece
from gpubranches.ingestion.protocol import Input
from gpubranches.ingestion.records import IngestHistory, InputComparison

Plan = list[tuple[Input, list[PlannedPiece]]]
_SHOWN = 4
"""The largest number of names in a message."""
_OPTIONS = {
    "embedder": "--embedder",
    "head": "--head",
    "dims": "--dims",
    "quantizer": "--quantizer",
    "embeddings": "--no-embeddings",
    "codec_from": "--codec-from",
    "frames_every": "--frames-every",
    "frames_at": "--frames-at",
}


def is_begun(history: IngestHistory) -> bool:
    """Return whether a catalog has any rows; an ingest that was stopped before its first rows can start again."""
    first = history.records[0].base if history.records else 0
    return history.catalog.next_id > first or "made_with" not in history.catalog.source


def plan_ingest(
    history: IngestHistory, inputs: Sequence[Input], made_with: dict[str, Any], stopped: bool
) -> tuple[Plan, int | None]:
    """Return the plan of an ingest into an existing catalog, and the stopped run that it resumes, or None.

    made_with: the present options. The plan includes pictures that could not be read and have been repaired. Raises
    UsageError unless the catalog was made with these options, and of these inputs in their present state.
    """
    catalog = history.catalog
    if "made_with" not in catalog.source:
        raise UsageError(
            f"{catalog.path}: holds a catalog without a record of its inputs; append to it, or choose another folder"
        )
    held, wanted = catalog.source["made_with"].get("shard"), made_with.get("shard")
    if held != wanted:
        there, here = (f"shard {shard}" if shard else "the whole input" for shard in (held, wanted))
        raise UsageError(f"{catalog.path}: expected {here}, it holds {there}; choose another folder")
    resumes = (history.unfinished or stopped) and len(history.records) == 1 and history.is_last(inputs)
    compared = [] if resumes else [history.compare(each) for each in inputs]
    missing = [] if resumes else history.missing_files(inputs)
    before = catalog.source["made_with"]
    other = [option for name, option in _OPTIONS.items() if before.get(name) != made_with.get(name)]
    # With other options of frames, the same videos have another number of frames.
    counted_alike = not {_OPTIONS["frames_every"], _OPTIONS["frames_at"]} & set(other)
    if counted_alike and (missing or any(each.new or each.unfinished or each.changed for each in compared)):
        paths = ", ".join(catalog.source["inputs"][0]["paths"])
        raise UsageError(
            f"{catalog.path}: holds a catalog of other input, of {paths}: {_difference(history, compared, missing)}"
        )
    if other:
        raise UsageError(
            f"{catalog.path}: holds a catalog of other input or options: this input, made with another "
            f"{' and '.join(other)}; choose another folder, or rebuild its codes by encode"
        )
    if resumes:
        return _rest(history, inputs), 0
    return [(each.input, each.planned()) for each in compared], None


def plan_append(
    history: IngestHistory, inputs: Sequence[Input], new: bool, stopped: bool
) -> tuple[Plan, int | None, list[str]]:
    """Return the plan of an append, the stopped run that it resumes, or None, and messages for the user.

    new: whether to add only new files; files of deleted items are not new. If False, raises UsageError if any part of
    the input is in the catalog. An input whose items were all deleted does not count as in the catalog.
    """
    _require_unmoved(history, inputs)
    if (history.unfinished or stopped) and history.is_last(inputs):
        return _rest(history, inputs), len(history.records) - 1, []
    compared = [history.compare(each) for each in inputs]
    if not new:
        if any(each.copy_of or history.holds_any(each.input) for each in compared):
            raise UsageError(f"{history.catalog.path}: {_already_there(history, compared)}")
        return [(each, [(piece, 0) for piece in each.pieces]) for each in inputs], None, []
    notes = []
    for each in compared:
        path, names = escaped_path(each.input.path), [piece.name for piece, _ in each.planned()]
        listed = f": {_some(names)}" if names else ""
        notes.append(f"{path}: {_count(names, each.input.noun, 'is', 'are')} new{listed}")
        if each.copy_of:
            notes.append(f"{path}: {copied(history, each)}")
        if each.changed:
            notes.append(f"{path}: {_changed(history, each)}")
    return [(each.input, each.planned()) for each in compared], None, notes


def _rest(history: IngestHistory, inputs: Sequence[Input]) -> Plan:
    """Return the rest of the plan of the last run; it is empty if that run is complete."""
    if not history.unfinished:
        return []
    starts = iter(past.start for past in history.records[-1].pieces)
    return [(each, [(piece, next(starts)) for piece in each.pieces]) for each in inputs]


def _difference(history: IngestHistory, compared: Sequence[InputComparison], missing: Sequence[str]) -> str:
    """Return how the present input differs from that of the catalog, and what the user can do."""
    reasons, advice = [], []
    for each in compared:
        if each.copy_of:
            return copied(history, each)
        if each.changed:
            reasons.append(_changed(history, each))
        names = [piece.name for piece, _ in each.planned()]
        if names:
            reasons.append(f"{_count(names, each.input.noun, 'is', 'are')} not in it ({_some(names)})")
            words = ["gpubranches", "append", escaped_path(str(history.catalog.path)), escaped_path(each.input.path)]
            words += [] if len(names) == len(each.input.pieces) else ["--new"]
            advice.append(f"add what is new by `{shlex.join(words)}`")
    if missing:
        names = [os.path.basename(path) for path in missing]
        reasons.append(f"{_count(names, '', 'is', 'are')} in it and not in the input ({_some(names)})")
    return f"{'; '.join(reasons)}; {', '.join([*advice, 'or choose another folder'])}"


def _already_there(history: IngestHistory, compared: Sequence[InputComparison]) -> str:
    """Return which parts of an input are already in the catalog, and what the user can do."""
    reasons, some_new = [], False
    for each in compared:
        path, what = escaped_path(each.input.path), each.input.noun
        if each.copy_of:
            reasons.append(f"{path}: {copied(history, each)}")
            continue
        names = [piece.name for piece, _ in each.planned()]
        there = len(each.unchanged) + len(each.changed) + len(each.unfinished)
        some_new |= bool(names)
        if there or each.repaired:
            listed = f" ({_some(names)})" if names else ""
            reasons.append(
                f"of {path}, {there:,} of {len(each.input.pieces):,} {what} are already in the catalog, "
                f"{_count(names, what, 'is', 'are')} new{listed}"
            )
        if each.changed:
            reasons.append(_changed(history, each))
    advice = "pass --new to add only those that are new" if some_new else "nothing was added"
    return f"{'; '.join(reasons)}; {advice}"


def _changed(history: IngestHistory, each: InputComparison) -> str:
    pasts = [history.pieces[piece.path] for piece, _ in each.changed]
    ids = [_span(past.first_id, past.first_id + past.taken - 1) for past in pasts]
    changed = _count(each.changed, each.input.noun, "has", "have")
    names = _some(name for _, name in each.changed)
    return (
        f"{changed} changed since ({names}; ids {_some(ids)}), whose items do not change: to ingest the present "
        "content, delete them and append with --new"
    )


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"


def copied(history: IngestHistory, each: InputComparison) -> str:
    """Return a message that an input is a copy of one in the catalog, and what the user can do."""
    path, old = escaped_path(each.input.path), escaped_path(each.copy_of)
    if stores.is_url(each.copy_of) or os.path.exists(each.copy_of):
        return f"{path} has the same content as {old}, which is already in the catalog"
    words = ("gpubranches", "relocate", escaped_path(str(history.catalog.path)), old, path)
    return f"{path} holds what {old} held, which is in the catalog; if it was moved, run `{shlex.join(words)}`"


def _require_unmoved(history: IngestHistory, inputs: Sequence[Input]) -> None:
    """Raise UsageError for an input at the old place of moved pictures: their paths would be ambiguous."""
    for each in inputs:
        now = present_path(history.catalog.source, each.path)
        if now != each.path:
            raise UsageError(
                f"{escaped_path(each.path)}: pictures of the catalog were in this folder before they moved to "
                f"{escaped_path(now)}; give the new folder another name"
            )


def _count(names: Sequence[object], what: str, one: str, many: str) -> str:
    count = len(names)
    verb = one if count == 1 else many
    return f"{count:,} {what.removesuffix('s') if count == 1 else what} {verb}".replace("  ", " ")


def _some(names: Iterable[str]) -> str:
    shown = [escaped_path(name) for name in names]
    more = f" and {len(shown) - _SHOWN:,} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more
