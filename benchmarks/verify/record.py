"""The record of a verification: one line of JSON for each finding, written at once, and the page made from them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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
    wrong = [line for line in lines if line.get("ok") is False]
    parts = [f"# gpu_verify {call}", "", *_facts(lines), "| step | seconds | findings | wrong | problem |"]
    parts += ["|---|---|---|---|---|"]
    for end in ends:
        own = [line for line in lines if line["step"] == end["step"] and not line.get("end")]
        failed = sum(line.get("ok") is False for line in own)
        problem = " ".join(end["problem"].split())[-300:].replace("|", "/")
        parts.append(f"| {end['step']} | {end['seconds']} | {len(own)} | {failed} | {problem} |")
    begun = {line["step"] for line in lines} - {end["step"] for end in ends} - {"run"}
    parts += [f"| {step} | | | | cut short |" for step in sorted(begun)]
    if wrong:
        parts += ["", "## Wrong", "", *(f"- {_told(line)}" for line in wrong)]
    skipped = [line for line in lines if "skipped" in line]
    if skipped:
        parts += ["", "## Left out", "", *(f"- {line['step']}: {line['skipped']}" for line in skipped)]
    return "\n".join([*parts, *_goals(lines), *_compared(lines), *_compiled(lines)]) + "\n"


def _facts(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    for line in lines:
        if line["step"] in ("run", "card"):
            facts = {name: value for name, value in line.items() if name not in ("step", "end", "problem", "seconds")}
            if facts:
                yield ", ".join(f"{name} {value}" for name, value in facts.items()) + "."
                yield ""


def _told(line: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in line.items() if name != "ok")


def _goals(lines: Sequence[dict[str, Any]]) -> list[str]:
    goals = [line for line in lines if "goal" in line]
    if not goals:
        return []
    head = [
        "",
        "## Goals",
        "",
        "| goal | rows | wanted | measured | p95 | cold | GB/s | of a copy | met |",
        "|" + "---|" * 9,
    ]
    for line in goals:
        speed = "" if line.get("gb_s") is None else f"{line['gb_s']:.1f}"
        share = "" if line.get("of_copy") is None else f"{line['of_copy']:.2f}"
        times = " | ".join(
            "" if line.get(name) is None else f"{line[name]:.2f} ms" for name in ("p50_ms", "p95_ms", "cold_ms")
        )
        wanted = f"{line['goal_ms']:.1f} ms"
        head.append(
            f"| {line['goal']} | {line['rows']:,} | {wanted} | {times} | {speed} | {share} "
            f"| {'yes' if line['met'] else 'no'} |"
        )
    return head


def _compared(lines: Sequence[dict[str, Any]]) -> list[str]:
    rows = [line for line in lines if "engine" in line]
    if not rows:
        return []
    head = ["", "## Nearest neighbours over float16 embeddings", ""]
    head += ["| engine | rows | dims | k | batch | filter | p50 | recall |", "|" + "---|" * 8]
    for line in rows:
        head.append(
            f"| {line['engine']} | {line['rows']:,} | {line['D']} | {line['k']} | {line['batch']} "
            f"| {line['filter']} | {line['p50_ms']:.3f} ms | {line['recall']:.3f} |"
        )
    return head


def _compiled(lines: Sequence[dict[str, Any]]) -> list[str]:
    rows = [line for line in lines if "entry" in line]
    if not rows:
        return []
    head = ["", "## Compiled", "", "| entry | constants | seconds | registers | local bytes |", "|" + "---|" * 5]
    for line in rows:
        head.append(
            f"| {line['entry']} | {line['constants']} | {line['seconds']} | {line['registers']} "
            f"| {line['local_bytes']} |"
        )
    return head
