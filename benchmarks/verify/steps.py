"""The steps of both calls of gpu_verify: each runs in a separate process and records every finding at once."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.verify import correctness, nearest, speed
from benchmarks.verify.processes import run
from benchmarks.verify.record import add, page, path_of, read

BUDGET_S = 225
"""Seconds of a call: four minutes minus the time for the start of Python and for a page."""


@dataclass(frozen=True)
class Step:
    """One step of a call: the function that yields its findings, as JSON, and its time limit in seconds."""

    name: str
    work: Callable[[argparse.Namespace], Iterator[dict[str, Any]]]
    limit_s: float


STEPS = {
    "correctness": [
        Step("card", correctness.card, 30),
        Step("compile", correctness.compiled, 60),
        Step("kernels", correctness.kernel_tests, 60),
        Step("public", correctness.public, 60),
        Step("at_size", correctness.at_size, 60),
        Step("contract", correctness.contract_tests, 60),
        Step("memcheck", correctness.memcheck, 45),
        Step("racecheck", correctness.racecheck, 45),
    ],
    "speed": [
        Step("card", speed.card, 40),
        Step("goals", speed.goals, 75),
        Step("refine", speed.refine, 75),
        Step("upload", speed.upload, 45),
        Step("capacity", speed.capacity, 40),
        Step("nearest", nearest.nearest, 60),
        Step("plot", speed.plot, 20),
    ],
}


def run_step(options: argparse.Namespace) -> None:
    """Run one step in this process and record each of its findings at once."""
    path = path_of(options.out, options.call)
    step = next(step for step in STEPS[options.call] if step.name == options.step)
    for finding in step.work(options):
        add(path, step=step.name, **finding)
        print({name: value for name, value in finding.items() if name != "printed"}, flush=True)


def attempt(step: Step, options: argparse.Namespace, limit_s: float) -> str:
    """Run a step in a separate process, record its end, write the page; return the problem, "" for none."""
    path = path_of(options.out, options.call)
    start, problem = time.monotonic(), "not run: the time was spent"
    if limit_s >= 1:
        command = [sys.executable, "-m", "benchmarks.verify", options.call, "--step", step.name]
        command += ["--out", str(options.out), "--measured", str(options.measured)]
        status, printed = run([*command, *(["--quick"] if options.quick else [])], limit_s)
        ended = f"stopped after {limit_s:.0f} s" if status == 124 else f"exit status {status}"
        problem = "" if status == 0 else f"{ended}: {printed[-2000:]}"
    seconds = round(time.monotonic() - start, 1)
    add(path, step=step.name, end=True, seconds=seconds, problem=problem)
    write_page(options.out, options.call)
    print(f"-- {step.name}: {seconds} s {problem}", flush=True)
    return problem


def write_page(folder: Path, call: str) -> str:
    """Write the page of a call, if there are findings; return its text."""
    lines = read(path_of(folder, call))
    text = page(call, lines) if lines else ""
    if lines:
        path_of(folder, call).with_suffix(".md").write_text(text, encoding="utf-8")
    return text
