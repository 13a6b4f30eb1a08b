"""Verify the gpu backend on this machine's card, measure it, and write one JSON file. At most eight minutes.

    scripts/gpu_verify [--out DIR] [--commit HASH] [--quick]

Needs CuPy, NumPy and pytest; nothing is installed. Without numba and scikit-learn the benchmark's boxes are drawn, not
learnt, which its lines say under "models", and neither the cpu backend nor a whole refine is measured; without
hypothesis the drawn cases of the contract are left out.

In order: the tests marked `gpu`; compute-sanitizer over some of them, where it is there; the kernels against plain CuPy
expressions at as many rows as the card holds; an upload; the benchmark. Every step is run whatever became of the
others: each that uses the card has a process of its own, which ends at its limit, so that a kernel that fails or hangs
takes nothing with it. The file is written after every step, and the table comes last.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import traceback
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree  # nosec B405  # reads what pytest wrote

import numpy as np

from benchmarks.at_size import check_at_size
from benchmarks.processes import run, save
from gpubranches.backends.gpu.cupy_device import usable
from gpubranches.bench.run import Plan
from gpubranches.bench.run import run as run_bench
from gpubranches.bench.synthetic import codes_of
from gpubranches.catalog import TILE
from gpubranches.catalog.segment import Rows, Segment, write_segment
from gpubranches.doctor import revision

ROOT = Path(__file__).resolve().parents[1]

BUDGET_S = 470
LIMITS_S = {"card": 60, "tests": 150, "sanitizer": 110, "at_size": 110, "upload": 50, "bench": 300}
STEPS = ("tests", "sanitizer", "at_size", "upload", "bench")
TEST_MODULES = ("test_kernels", "test_backends", "test_backends_drawn")
SANITIZED = ("129", "one_estimator", "rescored", "halves", "bitmaps")
KERNEL_TESTS = {
    "boxes": ("test_boxes_",),
    "nearest": ("test_nearest_rows", "test_scans"),
    "linear": ("test_linear_scores_over_codes", "test_scans"),
    "bits": ("test_linear_scores_over_bits", "test_scans"),
    "rescore": ("test_rescored_embeddings",),
    "select": ("test_nearest_rows", "test_ties_are_broken", "test_nearest_codes"),
    "quantize": ("test_quantized_vectors",),
    "allow": ("test_bitmaps_of_listed_rows",),
    "synthetic": ("test_synthetic_rows",),
}
LABELS = {
    "single branch": "single branch, 2 boxes",
    "ensemble": "ensemble, zones prune half",
    "ensembles of 64 users at once": "64 ensembles, zones prune half",
    "top 100 over codes": "nearest, one query",
    "linear over codes": "linear over codes",
    "linear over bits": "linear over 64-byte bits",
}


def main() -> None:
    """Run every step and write the file; with --step one of them alone, for a process of its own."""
    options = _options()
    if options.step:
        save(options.into, ISOLATED[options.step](options))
        return
    reason = usable()
    if reason is not None:
        sys.exit(f"scripts/gpu_verify needs a CUDA device: {reason}")
    until = time.monotonic() + BUDGET_S
    results, problem = isolated("card", options, LIMITS_S["card"])
    if problem:
        sys.exit(f"scripts/gpu_verify: the card does not answer: {problem}")
    results |= {
        "date": time.strftime("%Y-%m-%d"),
        "commit": options.commit or revision(),
        "seconds": {},
        "problems": {},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{results['date']}-{results['card'].lower().replace(' ', '-')}-gpu.json"
    for name in STEPS:
        start = time.monotonic()
        results[name], problem = attempted(name, options, min(LIMITS_S[name], until - start))
        if problem:
            results["problems"][name] = problem
        results["seconds"][name] = round(time.monotonic() - start, 1)
        results["roofline"] = roofline(results.get("bench"))
        path.write_text(json.dumps(results, indent=1, default=str))
        print(f"-- {name}: {results['seconds'][name]} s", flush=True)
    print(summary(results))
    print(path)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the JSON file")
    parser.add_argument("--commit", help="what is verified, where there is no git")
    parser.add_argument("--quick", action="store_true", help="small sizes: a minute, to see that it runs")
    parser.add_argument("--step", choices=ISOLATED, help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def attempted(name: str, options: argparse.Namespace, limit_s: float) -> tuple[Any, str]:
    """Return what a step found, None if nothing, and what became of it, empty if all went well."""
    if limit_s < 1:
        return None, "not run: the time was spent"
    if name in ISOLATED:
        return isolated(name, options, limit_s)
    try:
        return {"tests": tests, "sanitizer": sanitizer}[name](options, limit_s), ""
    except Exception as error:
        return None, f"{type(error).__name__}: {error} {traceback.format_exc()[-2000:]}"


def isolated(name: str, options: argparse.Namespace, limit_s: float) -> tuple[Any, str]:
    """Attempt a step in a process of its own; what it saved until it failed or was stopped comes with the problem."""
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "found.json"
        command = [sys.executable, "-m", "benchmarks.verify", "--step", name, "--into", str(into)]
        status, printed = run([*command, *(["--quick"] if options.quick else [])], limit_s)
        found = json.loads(into.read_text()) if into.exists() else None
    if status == 0:
        return found, ""
    return found, f"{f'stopped after {limit_s:.0f} s' if status == 124 else f'exit status {status}'}: {printed[-2000:]}"


def card(options: argparse.Namespace) -> dict[str, Any]:
    """Tell what the card is."""
    import cupy

    from gpubranches.backends.gpu.cupy_device import CupyDevice

    device = CupyDevice()
    free, total = device.memory()
    return {
        "card": device.name,
        "compute_capability": cupy.cuda.Device(0).compute_capability,
        "multiprocessors": device.multiprocessors,
        "memory_bytes": total,
        "free_bytes": free,
        "cupy": cupy.__version__,
        "cuda_runtime": cupy.cuda.runtime.runtimeGetVersion(),
        "cuda_driver": cupy.cuda.runtime.driverGetVersion(),
    }


def tests(options: argparse.Namespace, limit_s: float) -> dict[str, Any]:
    """Run the tests marked `gpu`; tell for each kernel how many passed."""
    report = options.out / "gpu-tests.xml"
    picked = ["-k", "4097 or ties or listed"] if options.quick else []
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-W", "default", "-p", "no:cacheprovider", *picked]
    command += [f"tests/{name}.py" for name in TEST_MODULES]
    status, printed = run([*command, f"--junit-xml={report}"], limit_s, OMP_NUM_THREADS="4")
    found = {}
    if report.exists():
        for case in ElementTree.parse(report).getroot().iter("testcase"):  # nosec B314  # pytest wrote it
            outcome = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")
            found[f"{case.get('classname')}::{case.get('name')}"] = outcome
        report.unlink()
    kernels = {}
    for kernel, names in KERNEL_TESTS.items():
        own = [outcome for test, outcome in found.items() if test.split("::")[1].startswith(names)]
        kernels[kernel] = {"passed": own.count("passed"), "failed": sum(o in ("failure", "error") for o in own)}
    failures = [test for test, outcome in found.items() if outcome in ("failure", "error")]
    return {
        "status": status,
        "passed": sum(outcome == "passed" for outcome in found.values()),
        "failures": failures,
        "kernels": kernels,
        "printed": printed if status else "",
    }


def sanitizer(options: argparse.Namespace, limit_s: float) -> dict[str, Any]:
    """Run memcheck and racecheck over the kernel tests of small sizes."""
    tool = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if tool is None:
        return {"skipped": "compute-sanitizer is not here"}
    chosen = f"cuda and ({' or '.join(SANITIZED)}) and not 1024"
    pytest = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-W", "default", "tests/test_kernels.py", "-k", chosen]
    found = {}
    checks = ("memcheck",) if options.quick else ("memcheck", "racecheck")
    for check in checks:
        command = [tool, "--tool", check, "--error-exitcode", "86", *pytest]
        status, printed = run(command, limit_s / len(checks), OMP_NUM_THREADS="4")
        lines = [line for line in printed.splitlines() if "SUMMARY" in line or "passed" in line or "failed" in line]
        found[check] = {"status": status, "lines": lines, "printed": "" if status == 0 else printed[-1500:]}
    return found


def at_size(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Hold the scans against plain CuPy expressions at sizes that fill the card, with and without bits."""
    import cupy

    from gpubranches.backends.gpu.cupy_device import CupyDevice

    free = _free_bytes()
    sizes = {("codes", "bits"): int(free / 104.6), ("codes",): min(int(free / 37.0), 3_800_000_000)}
    if options.quick:
        sizes = dict.fromkeys(sizes, 2_000_000)
    found: list[dict[str, Any]] = []
    for tiers, rows in sizes.items():
        found.append(check_at_size(CupyDevice, cupy, cupy.asnumpy, rows, tiers))
        save(options.into, found)
    return found


def _free_bytes() -> int:
    """Return what is free on the card but for 6 GiB of working memory."""
    from gpubranches.backends.gpu.cupy_device import CupyDevice

    device = CupyDevice()
    free = device.memory()[0] - (6 << 30)
    device.close()
    return free


def upload(options: argparse.Namespace) -> dict[str, Any]:
    """Upload a real catalog from the page cache; compare with a plain copy of the same bytes over the bus."""
    import cupy

    from gpubranches.backends.gpu.cupy_device import CupyDevice
    from gpubranches.backends.gpu.residence import Residence

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        catalog = stored_codes(Path(folder), 1 << 20, 1 if options.quick else 8)
        size = sum(segment.codes.nbytes + segment.zones.nbytes for segment in catalog.segments)
        for verify in (False, True):
            taken = []
            for _ in range(3):
                device = CupyDevice()
                start = time.perf_counter()
                residence = Residence(device, catalog, verify=verify)
                device.synchronize()
                taken.append(time.perf_counter() - start)
                residence.close()
                device.close()
            found["verified_gb_s" if verify else "gb_s"] = round(size / min(taken) / 1e9, 2)
    pinned = cupy.cuda.alloc_pinned_memory(1 << 28)
    target = cupy.empty(1 << 28, cupy.uint8)
    taken = []
    for _ in range(10):
        start = time.perf_counter()
        target.data.copy_from_host(pinned.ptr, 1 << 28)
        cupy.cuda.Device(0).synchronize()
        taken.append(time.perf_counter() - start)
    found["bus_gb_s"] = round((1 << 28) / float(np.median(taken)) / 1e9, 2)
    found["bytes"] = size
    return found


def stored_codes(folder: Path, rows: int, segments: int) -> Any:
    """Write segments of codes, all alike, and return what a Residence asks of their catalog."""
    ids = np.arange(rows)
    files = write_segment(folder / "0", Rows(codes_of(ids, 32, 4096, 1 << 24), ids), None)
    own = []
    for i in range(segments):
        if i:
            shutil.copytree(folder / "0", folder / str(i))
        own.append(Segment(folder / str(i), i * -(-rows // TILE) * TILE, rows, 32, 0, 0, 0, rows - 1, files))
    about = {"n": rows * segments, "d": 32, "D": 0, "n_bits": 0, "stores_embeddings": False, "generation": 1}
    return SimpleNamespace(segments=own, deleted=None, **about)


def bench(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the benchmark from 1e6 rows to as many as fit with their bits."""
    fits = _free_bytes() / 104.6
    sizes = [n for n in (1_000_000, 10_000_000, 100_000_000, 262_600_000) if n < fits]
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        embeddings = 10**8 if options.quick else 10**10
        sizes = sizes[:1] if options.quick else sizes
        plans = [
            Plan(["gpu"], sizes, embeddings_bytes=embeddings, budget_s=1.0),
            Plan(["gpu"], sizes[-1:], clusters=0, budget_s=1.0),
            Plan(["cpu"], sizes[:1], budget_s=1.0, users=8),
        ]
        for i, plan in enumerate(plans):
            show = partial(_keep, options, list(lines), folder / str(i) / "bench.jsonl")
            lines += [asdict(one) for one in run_bench(plan, folder / str(i), show=show)]
    return lines


def _keep(options: argparse.Namespace, before: list[dict[str, Any]], path: Path, text: str) -> None:
    """Print a line of the benchmark and save all lines so far."""
    print(text, flush=True)
    save(options.into, [*before, *map(json.loads, path.read_text().splitlines())])


ISOLATED = {"card": card, "at_size": at_size, "upload": upload, "bench": bench}


def roofline(lines: Any) -> dict[str, float]:
    """Return the medians at 262.6 M clustered rows by the labels of benchmarks/roofline.py."""
    if not isinstance(lines, list):
        return {}
    return {
        LABELS[one["what"]]: one["p50_ms"]
        for one in lines
        if one["engine"] == "gpu" and one["clusters"] and one["rows"] > 262_000_000 and one["what"] in LABELS
    }


def summary(results: dict[str, Any]) -> str:
    """Return a short table."""
    lines = [
        "",
        f"{results['card']}, commit {results['commit']}, CUDA {results['cuda_runtime']}, CuPy {results['cupy']}",
    ]
    lines += [f"{step}: {problem}" for step, problem in results.get("problems", {}).items()]
    tested = results.get("tests") or {}
    lines.append(f"tests: {tested.get('passed')} passed, failed: {tested.get('failures')}")
    for check, found in (results.get("sanitizer") or {}).items():
        lines.append(f"{check}: {found if isinstance(found, str) else (found['status'], found['lines'])}")
    for one in results.get("at_size") or []:
        lines.append(f"at size: {one}")
    lines.append(f"upload: {results.get('upload')}")
    for one in results.get("bench") or []:
        share = f"{one['roofline_ms'] / one['p50_ms']:.2f}" if one["roofline_ms"] else ""
        lines.append(
            f"{one['engine']:4} {one['rows']:>13,} {one['clusters']:>5} {one['what']:36} "
            f"p50 {one['p50_ms']:9.3f} p99 {one['p99_ms']:9.3f} cold {one['cold_ms']:9.1f}  {share}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
