"""Verify the gpu backend on this machine's card, then measure it, in two calls of less than four minutes each.

    scripts/gpu_verify correctness [--out DIR] [--commit HASH] [--quick]
    scripts/gpu_verify speed       [--out DIR] [--commit HASH] [--quick] [--measured FILE]

Needs CuPy, NumPy and pytest; installs nothing. Steps that need another package (numba, scikit-learn, faiss,
compute-sanitizer, matplotlib, ..) are skipped where it is missing, and the page says so.

The most informative steps come first. Each step has a process of its own, which ends at its time limit, so that a
kernel that fails or hangs does not stop the other steps. Each finding is written at once to DIR/gpu-CALL.jsonl, so an
interrupted call keeps its findings. `python -m benchmarks.verify page` writes DIR/gpu-CALL.md from this file, as a call
does after each step.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import verify_correctness, verify_nearest, verify_speed
from benchmarks.given import finite, out_folder
from benchmarks.processes import run
from benchmarks.verify_record import CALLS, add, page, path_of, read
from gpubranches.engines.gpu import measured_times
from gpubranches.service.doctor import revision

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BUDGET_S = 225
"""Seconds of a call: four minutes less what the start of Python and a page take."""


@dataclass(frozen=True)
class Step:
    """One step of a call: the function that yields its findings, as JSON, and its time limit in seconds."""

    name: str
    work: Callable[[argparse.Namespace], Iterator[dict[str, Any]]]
    limit_s: float


STEPS = {
    "correctness": [
        Step("card", verify_correctness.card, 30),
        Step("compile", verify_correctness.compiled, 60),
        Step("kernels", verify_correctness.kernel_tests, 60),
        Step("public", verify_correctness.public, 60),
        Step("at_size", verify_correctness.at_size, 60),
        Step("contract", verify_correctness.contract_tests, 60),
        Step("memcheck", verify_correctness.memcheck, 45),
        Step("racecheck", verify_correctness.racecheck, 45),
    ],
    "speed": [
        Step("card", verify_speed.card, 40),
        Step("goals", verify_speed.goals, 75),
        Step("refine", verify_speed.refine, 75),
        Step("upload", verify_speed.upload, 45),
        Step("capacity", verify_speed.capacity, 40),
        Step("nearest", verify_nearest.nearest, 60),
        Step("plot", verify_speed.plot, 20),
    ],
}


def main() -> None:
    """Run a call, or with --step one step of it, which writes its findings to the file of the call."""
    options = _options()
    if options.call == "page":
        for call in CALLS:
            write_page(options.out, call)
        return
    if options.step:
        run_step(options)
        return
    path = path_of(options.out, options.call)
    path.unlink(missing_ok=True)
    add(path, step="run", call=options.call, date=time.strftime("%Y-%m-%d"), commit=options.commit or revision())
    until = time.monotonic() + options.budget_s
    for step in STEPS[options.call]:
        problem = attempt(step, options, min(step.limit_s, until - time.monotonic()))
        if step.name == "card" and problem:
            sys.exit(f"scripts/gpu_verify: the card does not answer: {problem}")
    print(write_page(options.out, options.call))


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


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("call", choices=[*CALLS, "page"])
    parser.add_argument("--out", type=out_folder, default=RESULTS, help="folder for the output files")
    parser.add_argument("--commit", help="what is verified, where there is no git")
    parser.add_argument(
        "--measured",
        type=Path,
        default=measured_times.place(),
        help="file for the measured times of faiss and the kernels",
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to check that it runs")
    parser.add_argument("--budget-s", type=finite(0, above=True), default=BUDGET_S, help="seconds for all steps")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--share", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
