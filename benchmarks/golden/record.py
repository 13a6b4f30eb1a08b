"""Answers as texts, their digests, and the comparison of digests with a file."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

LIBRARIES = ("numpy", "scipy", "scikit-learn", "numba", "pyarrow", "pillow", "torch")
"""Packages that compute parts of answers, or write files."""
FIRST = 10
"""Ids of an answer that the file keeps."""
SAME_IDS = 5
COUNT_SHARE, COUNT_LEAST = 0.1, 3
TOLERANCE = (
    f"In another environment an answer may hold {COUNT_SHARE:.0%} or {COUNT_LEAST} items more or fewer, and its first "
    f"{FIRST} ids, where they are kept, share at least {SAME_IDS} with those here, or half where there are fewer."
)

Entry = dict[str, Any]


class Answers:
    """Answers by name, each kept as the digest of its JSON, its count and first ids. dump: a folder for their texts."""

    def __init__(self, dump: Path | None = None):
        self.entries: dict[str, Entry] = {}
        self._dump = dump

    def add(self, name: str, value: Any, *, everywhere: bool = False, drawn: bool = False) -> None:
        """Add an answer. For a dict with `ids`, also keep their number, or `total` if it has one, beside the digest.

        everywhere: whether its bytes are the same in every environment, as those of integers are. drawn: whether its
        items are drawn at random by scores, so that another rounding draws others; else the first ids are kept, too.
        """
        if name in self.entries:
            raise ValueError(f"{name}: expected a new name, got one that is taken")
        text = json.dumps(value, default=_plain, sort_keys=True)
        entry: Entry = {"sha256": hashlib.sha256(text.encode()).hexdigest()}
        if everywhere:
            entry["everywhere"] = True
        elif isinstance(value, dict) and "ids" in value:
            ids = np.asarray(value["ids"]).reshape(-1)
            entry["count"] = int(value.get("total", len(ids)))
            if not drawn:
                entry["first"] = ids[:FIRST].tolist()
        self.entries[name] = entry
        if self._dump is not None:
            path = self._dump / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(json.loads(text), indent=1) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """Return an array with its type, shape and every bit of its numbers, a time as text, and bytes as their digest."""
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.str, "shape": value.shape, "values": value.reshape(-1).tolist()}
    if isinstance(value, np.generic):
        return {"dtype": value.dtype.str, "value": value.item()}
    if isinstance(value, bytes):
        return {"bytes": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    raise TypeError(f"expected what JSON holds, arrays, bytes or times, got {type(value).__name__}")


def environment() -> dict[str, str]:
    """Return what the bytes of answers depend on: the processor and the versions of the libraries."""
    import llvmlite.binding
    import scipy.linalg  # noqa: F401 - so that its BLAS is among the libraries that are loaded

    blas = {f"{one['version']} {one['architecture']}" for one in threadpool_info() if one["user_api"] == "blas"}
    simd = np.show_config(mode="dicts")["SIMD Extensions"]
    return {
        "processor": llvmlite.binding.get_host_cpu_name(),
        "numpy simd": " ".join([*simd["baseline"], *simd.get("found", ())]),
        "blas": ", ".join(sorted(blas)),
        **{name: version(name) for name in LIBRARIES},
    }


def read(path: Path) -> dict[str, Any]:
    """Return the content of a file of answers."""
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


def write(path: Path, entries: Mapping[str, Entry], made_by: str) -> None:
    """Write answers and this environment, one answer per line."""
    head = {"command": made_by, "tolerance": TOLERANCE, "environment": environment()}
    lines = [f"  {json.dumps(name)}: {json.dumps(entries[name])}" for name in sorted(entries)]
    text = json.dumps(head, indent=1)[:-2] + ',\n "answers": {\n' + ",\n".join(lines) + "\n }\n}\n"
    path.write_text(text, encoding="utf-8")


def changes_of_environment(kept: Mapping[str, str]) -> list[str]:
    """Return the differences between this environment and that of a file, one phrase each."""
    now = environment()
    names = [name for name in {**kept, **now} if kept.get(name) != now.get(name)]
    return [f"{name}: {now.get(name, 'none')}, the file has {kept.get(name, 'none')}" for name in names]


def differences(found: Mapping[str, Entry], kept: Mapping[str, Entry], *, exact: bool) -> Iterator[str]:
    """Yield a line for each answer that differs, is missing or is new. exact: whether all bytes must be the same."""
    for name in sorted({**found, **kept}):
        if name not in found:
            yield f"{name}: is in the file, was not answered"
        elif name not in kept:
            yield f"{name}: is not in the file"
        elif found[name]["sha256"] != kept[name]["sha256"] and (problem := _problem(found[name], kept[name], exact)):
            yield f"{name}: {problem}"


def _problem(now: Entry, before: Entry, exact: bool) -> str:
    """Return how two answers with different digests differ, or "" if they agree within the tolerance."""
    told = _count_and_ids(now, before)
    if exact or before.get("everywhere"):
        return told or "other bytes, the same count and first ids"
    if "count" not in before or "count" not in now:
        return ""
    far = abs(now["count"] - before["count"]) > max(COUNT_LEAST, COUNT_SHARE * before["count"])
    first = before.get("first", [])
    unlike = len(set(now.get("first", [])) & set(first)) < min(SAME_IDS, len(first) // 2)
    return told if far or unlike else ""


def _count_and_ids(now: Entry, before: Entry) -> str:
    parts = []
    if now.get("count") != before.get("count"):
        parts.append(f"{now.get('count')} items, {before.get('count')} in the file")
    if now.get("first") != before.get("first"):
        parts.append(f"first ids {now.get('first')}, {before.get('first')} in the file")
    return "; ".join(parts)
