"""The first call of gpu_verify checks answers. Each step yields findings; `ok` says whether a check passed."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.synthetic_catalogs import Clusters
from benchmarks.roofline.sass import VARIANTS
from benchmarks.verify.at_size import check_allow, check_at_size, check_quantize, check_rescore
from benchmarks.verify.record import add, path_of, read
from gpubranches.engines.gpu.sources import source

ROOT = Path(__file__).resolve().parents[2]
Finding = dict[str, Any]

KERNEL_TESTS = {
    "boxes": ("test_boxes_",),
    "nearest": ("test_nearest_rows", "test_scans"),
    "linear": ("test_linear_scores_over_codes", "test_scans"),
    "bits": ("test_linear_scores_over_bits", "test_scans", "test_halves_below"),
    "rescore": ("test_rescored_embeddings", "test_halves_below"),
    "select": ("test_nearest_rows", "test_scans", "test_linear_scores"),
    "quantize": ("test_quantized_vectors",),
    "allow": ("test_bitmaps_of_listed_rows",),
    "synthetic": ("test_synthetic_rows",),
}
CONTRACT = ("test_backends", "test_backends_drawn")
SANITIZED = ("129", "one_estimator", "50-True", "halves", "bitmaps")
_ENTRY = re.compile(r'extern "C" __global__ void[^(]*\([^)]*\)\s*(\w+)\(')
_QUARTER = 4
_SHARES = 8
"""Most processes that run tests at the same time."""


def card(options: argparse.Namespace) -> Iterator[Finding]:
    """Yield the properties of the card, after a kernel and a copy on it."""
    import cupy

    from gpubranches.engines.gpu.cupy_device import CupyDevice

    device = CupyDevice()
    free, total = device.memory()
    yield {
        "card": device.name,
        "multiprocessors": device.multiprocessors,
        "memory_bytes": total,
        "free_bytes": free,
        "cupy": cupy.__version__,
        "cuda_runtime": cupy.cuda.runtime.runtimeGetVersion(),
        "cuda_driver": cupy.cuda.runtime.driverGetVersion(),
        "python": sys.version.split()[0],
        "numpy": np.__version__,
    }
    missing = [name for name in OPTIONAL if importlib.util.find_spec(name) is None]
    if missing:
        yield {"skipped": f"not installed: {', '.join(missing)}"}
    device.close()


OPTIONAL = ("numba", "scipy", "sklearn", "hypothesis", "safetensors", "pyarrow", "faiss", "matplotlib", "torch")


def compiled(options: argparse.Namespace) -> Iterator[Finding]:
    """Compile and load every kernel with its usual constants."""
    import cupy

    from gpubranches.engines.gpu import cupy_device

    for kernel, constants in VARIANTS:
        text = source(kernel, constants)
        for entry in _ENTRY.findall(text):
            start = time.perf_counter()
            finding = {"entry": entry, "constants": " ".join(map(str, constants.values()))}
            try:
                module = cupy.RawModule(code=text, options=cupy_device._OPTIONS)
                function = module.get_function(entry)
                own = {"registers": function.num_regs, "local_bytes": function.local_size_bytes, "ok": True}
            except Exception as error:
                own = {"registers": None, "local_bytes": None, "ok": False, "error": str(error)[-1500:]}
            yield {**finding, **own, "seconds": round(time.perf_counter() - start, 2)}


def kernel_tests(options: argparse.Namespace) -> Iterator[Finding]:
    """Run the tests of the kernels that are marked `gpu`."""
    return _pytest(options, "kernels", ["tests/test_kernels.py"], ["-k", "129 or bitmaps"] if options.quick else [])


def contract_tests(options: argparse.Namespace) -> Iterator[Finding]:
    """Run the contract tests of all backends on the gpu backend."""
    modules = [f"tests/{name}.py" for name in CONTRACT]
    return _pytest(options, "contract", modules, ["-k", "ties"] if options.quick else [])


def _pytest(options: argparse.Namespace, step: str, modules: list[str], picked: list[str]) -> Iterator[Finding]:
    """Run tests in several processes, or, with --share, one share of them in this process.

    Compiling takes most of the time, and each process compiles on a core of its own.
    """
    if options.share:
        _pytest_share(options, step, [*modules, *picked])
        return
    shares = min(_SHARES, os.cpu_count() or 1)
    own = [sys.executable, "-m", "benchmarks.verify", options.call, "--step", step, "--out", str(options.out)]
    own += ["--quick"] if options.quick else []
    started = [subprocess.Popen([*own, "--share", f"{i}/{shares}"], cwd=ROOT) for i in range(shares)]
    statuses = [process.wait() for process in started]
    ran = sum(line["step"] == step and "test" in line for line in read(path_of(options.out, options.call)))
    yield {"tests": step, "ok": ran > 0 and not any(statuses), "ran": ran, "statuses": statuses}


def _pytest_share(options: argparse.Namespace, step: str, chosen: list[str]) -> None:
    """Run every n-th test in this process and record each result at once. Exits with 1 if one failed."""
    import pytest

    index, shares = map(int, options.share.split("/"))

    class Lines:
        @pytest.hookimpl(trylast=True)
        def pytest_collection_modifyitems(self, items: list[Any]) -> None:
            items[:] = items[index::shares]

        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.when == "call" or report.failed:
                name = report.nodeid.split("::")[-1]
                own = [kernel for kernel, names in KERNEL_TESTS.items() if name.startswith(names)]
                told = {"printed": str(report.longrepr)[-1500:]} if report.failed else {}
                found = {"kernels": own if step == "kernels" else [], "seconds": round(report.duration, 2)}
                add(path_of(options.out, options.call), step=step, test=name, ok=report.passed, **found, **told)

    command = ["-q", "-m", "gpu", "-W", "default", "-p", "no:cacheprovider", *chosen]
    status = int(pytest.main(command, plugins=[Lines()]))
    if status not in (0, int(pytest.ExitCode.NO_TESTS_COLLECTED)):
        sys.exit(1)


def memcheck(options: argparse.Namespace) -> Iterator[Finding]:
    """Run compute-sanitizer's memcheck over tests of small sizes."""
    return _sanitized("memcheck")


def racecheck(options: argparse.Namespace) -> Iterator[Finding]:
    """Run compute-sanitizer's racecheck, for shared memory."""
    return _sanitized("racecheck")


def _sanitized(check: str) -> Iterator[Finding]:
    tool = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if tool is None:
        yield {"skipped": "compute-sanitizer is not installed"}
        return
    chosen = f"cuda and ({' or '.join(SANITIZED)}) and not 1024"
    pytest = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-W", "default", "-p", "no:cacheprovider"]
    command = [tool, "--tool", check, "--error-exitcode", "86", *pytest, "tests/test_kernels.py", "-k", chosen]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    printed = done.stdout + done.stderr
    lines = [line for line in printed.splitlines() if "SUMMARY" in line or "passed" in line or "failed" in line]
    told = {"printed": printed[-1500:]} if done.returncode else {}
    yield {"check": check, "ok": done.returncode == 0, "lines": lines, **told}


# The public API


def public(options: argparse.Namespace) -> Iterator[Finding]:
    """Compare the card with the host on a small catalog: searches and refines, after an append, a delete, reopening."""
    from gpubranches import Catalog, open_backend

    n = 3000 if options.quick else 20_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "catalog"
        made = ClusteredCatalog(path)
        catalog = made.catalog
        for _ in range(2):
            made.append(n // 2)
        host = open_backend("oracle", catalog)
        with open_backend("gpu", catalog) as backend:
            yield from searched(catalog, backend, host, "as made")
            made.append(n // 10)
            yield from searched(catalog, backend, host, "after an append")
            catalog.delete(np.arange(0, n, 7))
            yield from searched(catalog, backend, host, "after a delete")
        reopened = Catalog.open(path)
        with open_backend("gpu", reopened) as backend:
            yield {"state": backend.info()["tiers"]}
            yield from searched(reopened, backend, host, "opened again")
            yield from refined(reopened, backend, host, made.owners)


class ClusteredCatalog:
    """A catalog with embeddings of D dims, and codes of their first 16, made from drawn clusters.

    owners: (n,) the cluster of each id.
    """

    def __init__(self, path: Path, D: int = 64):
        sys.path.insert(0, str(ROOT / "tests"))
        import worlds  # type: ignore[import-not-found]  # noqa: F401 - stores constants where safetensors is missing

        from gpubranches import Catalog
        from gpubranches.core.embedding_space import EmbeddingSpace
        from gpubranches.encoders.quantizers import ScalarQuantizer, SignQuantizer

        self._clusters, self._appended = Clusters(D), 0
        sample, _ = self._clusters.vectors(0, 2000)
        self._signs = SignQuantizer().fit(sample)
        self._scalar = ScalarQuantizer().fit(sample[:, :16])
        self.owners = np.zeros(0, np.int64)
        self.catalog = Catalog.create(path, space=EmbeddingSpace(), d=16, signs=self._signs)

    def append(self, n: int) -> None:
        """Append a segment of n rows."""
        self._appended += 1
        vectors, owners = self._clusters.vectors(self._appended, n)
        embeddings = vectors.astype(np.float16)
        bits, scales = self._signs.encode(vectors)
        codes = self._scalar.encode(np.ascontiguousarray(vectors[:, :16]))
        ids = self.catalog.next_id + np.arange(n)
        self.catalog.append(codes, ids=ids, bits=bits, scales=scales, embeddings=embeddings.__getitem__)
        self.owners = np.concatenate([self.owners, owners])


def searched(catalog: Any, backend: Any, host: Any, when: str) -> Iterator[Finding]:
    """Compare a search of each tier, with and without a filter."""
    rng = np.random.default_rng(5)
    live = np.flatnonzero(catalog.alive(np.arange(catalog.next_id)))
    item = int(live[len(live) // 2])
    code, direction = catalog.codes([item]), rng.standard_normal((1, 64)).astype(np.float32)
    where = np.zeros(_bitmap_bytes(catalog), np.uint8)
    where[: len(where) // 2] = 0b01110111
    for tier, query in (("codes", code), ("bits", direction), ("embeddings", direction)):
        for filtered in (None, where):
            wanted = host.search(query, 50, tier=tier, where=filtered).ids[0].tolist()
            found = backend.search(query, 50, tier=tier, where=filtered)
            same = len(set(found.ids[0].tolist()) & set(wanted)) / max(len(wanted), 1)
            right = found.ids[0].tolist() == wanted if tier == "codes" else same >= 0.98
            told = {"search": tier, "when": when, "filtered": filtered is not None, "source": found.source}
            yield {**told, "ok": bool(right), "same": same}


def _bitmap_bytes(catalog: Any) -> int:
    from gpubranches.catalog import TILE

    tiles = int(sum(segment.tiles for segment in catalog.segments if segment.n))
    return tiles * TILE // 8


def refined(catalog: Any, backend: Any, host: Any, owners: NDArray[np.int64]) -> Iterator[Finding]:
    """Compare a refine of each model from marks of one cluster; owners: (n,) the cluster of each id.

    The order of float sums differs, so a few items may differ.
    """
    from gpubranches.core.options import MODELS

    missing = [name for name in ("numba", "scipy", "threadpoolctl") if importlib.util.find_spec(name) is None]
    if missing:
        yield {"skipped": f"refine needs {', '.join(missing)}"}
        return
    from gpubranches import Session

    live = np.flatnonzero(catalog.alive(np.arange(len(owners))))
    largest = int(np.bincount(owners[live]).argmax())
    positive, negative = live[owners[live] == largest][:14], live[owners[live] != largest][:10]
    for model in sorted(MODELS, key=lambda name: "classic" in name):  # numba takes long to compile them
        answers = []
        start = time.perf_counter()
        try:
            for own in (backend, host):
                session = Session(catalog, own, seed=0)
                session.mark(positive, +1)
                session.mark(negative, -1)
                ranking = session.refine(model)
                answers.append(set(ranking.ids[ranking.matched].tolist()))
        except ImportError as error:
            yield {"skipped": f"refine by {model}: {error}"}
            continue
        common = len(answers[0] & answers[1]) / max(len(answers[0] | answers[1]), 1)
        took = round(time.perf_counter() - start, 2)
        yield {"refine": model, "ok": common >= 0.98, "same": common, "matched": len(answers[0]), "seconds": took}


# At a size that fills a quarter of the card


def at_size(options: argparse.Namespace) -> Iterator[Finding]:
    """Compare every kernel with plain CuPy expressions over a quarter of the card."""
    import cupy

    from gpubranches.engines.gpu.cupy_device import CupyDevice

    device = CupyDevice()
    quarter = device.memory()[0] // _QUARTER
    device.close()
    quarter = 1 << 20 if options.quick else quarter

    def check(names: list[str], work: Callable[[], dict[str, Any]]) -> Finding:
        start = time.perf_counter()
        found = work()
        took = round(time.perf_counter() - start, 1)
        return {"kernels": names, "ok": all(found["checks"].values()), **found, "seconds": took}

    arguments = CupyDevice, cupy, cupy.asnumpy
    scans = ["boxes", "nearest", "linear", "bits", "select", "synthetic", "allow"]
    k = 50 if options.quick else 1000
    rows = int(quarter / 104.6)
    yield check(scans, lambda: check_at_size(*arguments, rows, ("codes", "bits"), k))
    yield check(["rescore"], lambda: check_rescore(*arguments, quarter // 1028))
    yield check(["quantize"], lambda: check_quantize(*arguments, quarter // 164))
    yield check(["allow"], lambda: check_allow(*arguments, min(quarter // 24, 1 << 26)))
