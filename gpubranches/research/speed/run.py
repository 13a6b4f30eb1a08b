"""Run the benchmark: every size, engine and question, to JSON lines, a table and plots."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpubranches.errors import GpuBranchesError
from gpubranches.research.speed.engine import Engine, Question
from gpubranches.research.speed.engines import open_engine
from gpubranches.research.speed.questions import LEARNT, Questions, ask
from gpubranches.research.speed.synthetic import SyntheticCatalog, write_stand_in
from gpubranches.research.speed.timing import timed
from gpubranches.research.tables import markdown_table
from gpubranches.service.doctor import examine, revision

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Measure:
    """One line of the results.

    Times in milliseconds; roofline_ms: of reading bytes_read at the speed of a copy measured here; found: number of
    matches, None if not applicable; built_bytes: size of the engine's data besides the codes; models: how the boxes
    were made, see Questions.
    """

    engine: str
    rows: int
    clusters: int
    what: str
    cold_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    repeats: int
    ready_ms: float
    bytes_read: int
    roofline_ms: float | None
    recall: float | None
    found: int | None = None
    built_bytes: int = 0
    models: str = LEARNT

    @property
    def fraction(self) -> float | None:
        """Share of the roofline that is reached, 1 at best."""
        return None if self.roofline_ms is None else self.roofline_ms / self.p50_ms


@dataclass(frozen=True)
class Plan:
    """The plan of a run. embeddings_bytes: size of the file that stands in for embeddings, 0 for no refine."""

    engines: Sequence[str]
    rows: Sequence[int]
    d: int = 32
    D: int = 512
    clusters: int = 4096
    embeddings_bytes: int = 0
    budget_s: float = 2.0
    users: int = 64


def run(
    plan: Plan, folder: Path, *, report: Report | None = None, show: Callable[[str], None] = print
) -> list[Measure]:
    """Measure everything of a plan, write bench.jsonl beside the stand-in embeddings in folder, return the lines.

    An engine that is missing or does not fit is named with its reason and left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stand_in = None
    if plan.embeddings_bytes:
        stand_in = folder / "stand-in.f16"
        write_stand_in(stand_in, plan.embeddings_bytes, plan.D, plan.clusters, report)
    measures: list[Measure] = []
    facts = machine()
    with (folder / "bench.jsonl").open("w", encoding="utf-8") as file:
        for rows in plan.rows:
            catalog = SyntheticCatalog(rows, d=plan.d, D=plan.D, clusters=plan.clusters, stand_in=stand_in)
            asked = ask(catalog, users=plan.users)
            for name in plan.engines:
                for one in _measured(name, catalog, asked, plan.budget_s, folder, show):
                    measures.append(one)
                    file.write(json.dumps({**asdict(one), **facts}) + "\n")
                    file.flush()
                    show(line(one))
    return measures


def _measured(
    name: str,
    catalog: SyntheticCatalog,
    asked: Questions,
    budget_s: float,
    folder: Path,
    show: Callable[[str], None],
) -> list[Measure]:
    found = []
    try:
        with open_engine(name, catalog, asked, folder) as engine:
            show(f"{name} at {catalog.n:,} rows: ready in {engine.ready_ms / 1e3:.1f} s{_size(engine, catalog)}")
            for question in engine.questions:
                found.append(_measure(engine, question, catalog, asked.models, budget_s))
    except GpuBranchesError as error:
        show(f"{name} at {catalog.n:,} rows: left out: {error}")
    return found


def _size(engine: Engine, catalog: SyntheticCatalog) -> str:
    return f", {engine.built_bytes / catalog.n:.1f} bytes a row beside the codes" if engine.built_bytes else ""


def _measure(engine: Engine, question: Question, catalog: SyntheticCatalog, models: str, budget_s: float) -> Measure:
    times = timed(question.work, budget_s=budget_s, before=question.before)
    answer = question.work()
    roofline = None
    if question.bytes_read and engine.copy_bytes_s:
        roofline = 1e3 * question.bytes_read / engine.copy_bytes_s
    return Measure(
        engine=engine.name,
        rows=catalog.n,
        clusters=catalog.clusters,
        what=question.what,
        **asdict(times),
        ready_ms=engine.ready_ms,
        bytes_read=question.bytes_read,
        roofline_ms=roofline,
        recall=None if question.recall is None else question.recall(),
        found=answer if isinstance(answer, int) else getattr(answer, "total", None),
        built_bytes=engine.built_bytes,
        models=models,
    )


def machine() -> dict[str, Any]:
    """Return date, machine and versions of a run."""
    parts = {
        finding.part: finding.state for finding in examine() if finding.part in ("machine", "GPU", "cupy", "faiss")
    }
    return {"date": time.strftime("%Y-%m-%d"), "python": platform.python_version(), "commit": revision(), **parts}


def line(one: Measure) -> str:
    """Return a measure as one line of text."""
    share = "" if one.fraction is None else f", {one.fraction:.2f} of the roofline"
    recall = "" if one.recall is None else f", recall {one.recall:.2f}"
    return (
        f"{one.engine:14} {one.rows:>13,}  {one.what}: p50 {one.p50_ms:.2f} ms, p99 {one.p99_ms:.2f}, "
        f"cold {one.cold_ms:.1f}{share}{recall}"
    )


def table(measures: Sequence[Measure]) -> str:
    """Return the measures as Markdown: a line for each engine, rows and question."""
    header = (
        "engine",
        "rows",
        "question",
        "found",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "cold ms",
        "of the roofline",
        "recall",
    )
    rows = [
        (
            *(one.engine, f"{one.rows:,}", one.what, "" if one.found is None else f"{one.found:,}"),
            *(f"{one.p50_ms:.2f}", f"{one.p95_ms:.2f}", f"{one.p99_ms:.2f}", f"{one.cold_ms:.1f}"),
            "" if one.fraction is None else f"{one.fraction:.2f}",
            "exact" if one.recall is None else f"{one.recall:.2f}",
        )
        for one in measures
    ]
    return markdown_table(header, rows) + "\n"
