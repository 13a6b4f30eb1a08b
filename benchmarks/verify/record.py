"""The record of a verification: one line of JSON per finding, written at once, and the page made from them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gpubranches.research.tables import Section, markdown_table

CALLS = ("correctness", "speed")


def path_of(folder: Path, call: str) -> Path:
    """Return the file of a call's lines."""
    return folder / f"gpu-{call}.jsonl"


def add(path: Path, **line: Any) -> None:
    """Append one finding; it is on disk when this returns."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, default=str) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[dict[str, Any]]:
    """Return the findings; an incomplete last line is left out."""
    if not path.exists():
        return []
    texts = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(text) for text in texts]


def kernels(lines: Sequence[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Return for each kernel how many of its checks (tests and comparisons at size) passed and failed."""
    found: dict[str, dict[str, int]] = {}
    for line in lines:
        for kernel in line.get("kernels", ()):
            own = found.setdefault(kernel, {"passed": 0, "failed": 0})
            own["passed" if line["ok"] else "failed"] += 1
    return found


def finished(lines: Sequence[dict[str, Any]], step: str) -> bool:
    """Return whether a step finished without a problem."""
    return any(line["step"] == step and line.get("end") and not line["problem"] for line in lines)


def page(call: str, lines: Sequence[dict[str, Any]]) -> str:
    """Return the findings as Markdown: first the end of each step, then the failures, then all others."""
    ends = [line for line in lines if line.get("end")]
    rows: list[tuple[Any, ...]] = []
    for end in ends:
        own = [line for line in lines if line["step"] == end["step"] and not line.get("end")]
        failed = sum(line.get("ok") is False for line in own)
        rows.append((end["step"], end["seconds"], len(own), failed, " ".join(end["problem"].split())[-300:]))
    begun = {line["step"] for line in lines} - {end["step"] for end in ends} - {"run"}
    rows += [(step, "", "", "", "cut short") for step in sorted(begun)]
    steps = markdown_table(("step", "seconds", "findings", "wrong", "problem"), [_escaped(row) for row in rows])
    parts = [f"# gpu_verify {call}", *_facts(lines), steps]
    if wrong := [line for line in lines if line.get("ok") is False]:
        parts.append("## Wrong\n\n" + "\n".join(f"- {_told(line)}" for line in wrong))
    if skipped := [line for line in lines if "skipped" in line]:
        parts.append("## Left out\n\n" + "\n".join(f"- {line['step']}: {line['skipped']}" for line in skipped))
    sections = [_goals(lines), _compared(lines), _compiled(lines)]
    return "\n\n".join([*parts, *(section.markdown() for section in sections if section.rows)]) + "\n"


def _escaped(row: Sequence[Any]) -> list[str]:
    return [str(cell).replace("|", "/") for cell in row]


def _facts(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    for line in lines:
        if line["step"] in ("run", "card"):
            facts = {name: value for name, value in line.items() if name not in ("step", "end", "problem", "seconds")}
            if facts:
                yield ", ".join(f"{name} {value}" for name, value in facts.items()) + "."


def _told(line: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in line.items() if name != "ok")


def _goals(lines: Sequence[dict[str, Any]]) -> Section:
    rows = [
        (
            *(line["goal"], f"{line['rows']:,}", f"{line['goal_ms']:.1f} ms"),
            *(_number(line, name, ".2f", " ms") for name in ("p50_ms", "p95_ms", "cold_ms")),
            *(_number(line, "gb_s", ".1f"), _number(line, "of_copy", ".2f"), "yes" if line["met"] else "no"),
        )
        for line in lines
        if "goal" in line
    ]
    return Section("Goals", ("goal", "rows", "wanted", "measured", "p95", "cold", "GB/s", "of a copy", "met"), rows)


def _number(line: dict[str, Any], name: str, form: str, unit: str = "") -> str:
    return "" if line.get(name) is None else f"{line[name]:{form}}{unit}"


def _compared(lines: Sequence[dict[str, Any]]) -> Section:
    rows = [
        (
            *(line["engine"], f"{line['rows']:,}", line["D"], line["k"], line["batch"], line["filter"]),
            *(f"{line['p50_ms']:.3f} ms", f"{line['recall']:.3f}"),
        )
        for line in lines
        if "engine" in line
    ]
    header = ("engine", "rows", "dims", "k", "batch", "filter", "p50", "recall")
    return Section("Nearest neighbours over float16 embeddings", header, rows)


def _compiled(lines: Sequence[dict[str, Any]]) -> Section:
    names = ("entry", "constants", "seconds", "registers", "local_bytes")
    rows = [tuple(line[name] for name in names) for line in lines if "entry" in line]
    return Section("Compiled", ("entry", "constants", "seconds", "registers", "local bytes"), rows)
