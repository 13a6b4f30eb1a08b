"""Verify the gpu backend on this machine's card, then measure it, in two calls of less than four minutes each.

    scripts/gpu_verify correctness [--out DIR] [--commit HASH] [--quick]
    scripts/gpu_verify speed       [--out DIR] [--commit HASH] [--quick] [--measured FILE]

Needs CuPy, NumPy and pytest; installs nothing. Steps that need another package (numba, scikit-learn, faiss,
compute-sanitizer, matplotlib, ..) are skipped where it is missing, and the page says so.

The most informative steps come first. Each step runs in a separate process, which ends at its time limit, so that a
kernel that fails or hangs does not stop the other steps. Each finding is written at once to DIR/gpu-CALL.jsonl, so an
interrupted call keeps its findings. `python -m benchmarks.verify page` writes DIR/gpu-CALL.md from this file, as a call
does after each step.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmarks.harness.options import finite, out_folder
from benchmarks.verify.record import CALLS, add, path_of
from benchmarks.verify.steps import BUDGET_S, STEPS, attempt, run_step, write_page
from gpubranches.engines.gpu import measured_times
from gpubranches.service.doctor import revision

RESULTS = Path(__file__).resolve().parents[1] / "results"


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
