"""What verifies the kernels on a card, run here as far as it goes: on the simulated device, with NumPy as reference."""

import ctypes
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import fake_faiss
import numpy as np
import pytest
from bare import bare
from cudasim import SimulatedDevice

from benchmarks import status
from benchmarks.roofline import __main__ as roofline
from benchmarks.roofline.sass import VARIANTS
from benchmarks.verify import __main__ as verify
from benchmarks.verify import correctness, nearest, processes, record, speed, steps
from benchmarks.verify.at_size import check_allow, check_at_size, check_quantize, check_rescore
from gpubranches.engines.gpu.measured_times import Measured, choose
from gpubranches.engines.gpu.resident_copy import Residence
from gpubranches.engines.gpu.sources import KERNELS
from gpubranches.errors import BackendUnavailableError

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("tiers", [("codes", "bits"), ("codes",)])
def test_the_check_at_size_passes_on_sound_kernels(tiers):
    found = check_at_size(SimulatedDevice, np, np.asarray, 20_000, tiers, k=50)
    assert len(found["checks"]) == (8 if "bits" in tiers else 7)
    assert all(found["checks"].values())


@pytest.mark.parametrize(
    ("kernel", "old", "new", "noticed"),
    [
        ("boxes", "majority(x[7], least, b.w)", "majority(x[7], least, b.z)", "boxes: total"),
        ("boxes", "majority(x[3], least, a.w)", "majority(x[3], least, a.z)", "boxes: filtered ids"),
        ("nearest", "2u * dots[q][r]", "dots[q][r]", "nearest: keys"),
        ("linear", "+ offset)", ")", "linear: keys"),
        ("bits", "peak - 2", "peak - 3", "bits: keys"),
    ],
)
def test_the_check_at_size_notices_a_wrong_kernel(kernel, old, new, noticed):
    def change(file, text):
        return text.replace(old, new) if file == kernel else text

    found = check_at_size(lambda: SimulatedDevice(change=change), np, np.asarray, 20_000, ("codes", "bits"), k=50)
    assert not found["checks"][noticed]


@pytest.mark.parametrize("check", [check_rescore, check_quantize, check_allow])
def test_the_other_checks_at_size_pass_on_sound_kernels(check):
    found = check(SimulatedDevice, np, np.asarray, 20_000)
    assert len(found["checks"]) >= 2
    assert all(found["checks"].values())


@pytest.mark.parametrize(
    ("check", "kernel", "old", "new", "noticed"),
    [
        (check_rescore, "rescore", "* weight.at[k]", "* weight.at[0]", "rescore: scores"),
        (check_rescore, "rescore", "- centre.at[k]", "", "rescore: total"),
        (check_quantize, "quantize", "0.5f", "0.4f", "quantize: codes"),
        (check_quantize, "quantize", "least = min(least, __shfl", "least = max(least, __shfl", "quantize: zones"),
        (check_allow, "allow", "a[i] & b[i]", "a[i] | b[i]", "allow: both"),
        (check_allow, "allow", "live[position / 32u] &", "", "allow: listed"),
    ],
)
def test_the_other_checks_at_size_notice_a_wrong_kernel(check, kernel, old, new, noticed):
    def change(file, text):
        assert file != kernel or old in text
        return text.replace(old, new) if file == kernel else text

    found = check(lambda: SimulatedDevice(change=change), np, np.asarray, 20_000)
    assert not found["checks"][noticed]


def test_every_kernel_has_its_tests():
    assert set(correctness.KERNEL_TESTS) == set(KERNELS) == {kernel for kernel, _ in VARIANTS}
    marked = [path for path in (ROOT / "tests").glob("test_*.py") if "marks=" + "pytest.mark.gpu" in path.read_text()]
    assert (
        {path.stem for path in marked}
        == {"test_kernels", "test_backends"}
        < {
            "test_kernels",
            *correctness.CONTRACT,
        }
    )
    kernel_tests = (ROOT / "tests" / "test_kernels.py").read_text()
    for names in correctness.KERNEL_TESTS.values():
        assert all(f"def {name}" in kernel_tests for name in names)


PYTEST = "import pytest; sys.exit(pytest.main(sys.argv[1:]))"


def test_the_contract_runs_with_little_installed():
    """The cases of the gpu backend on the simulated device, where a card would run those marked `gpu`; not kdtree's."""
    chosen = "(gpu or kdtree) and not 8200 and (ties or size or commits or boxes or directions or models or refused)"
    status, printed = bare(PYTEST, "-q", "-p", "no:cacheprovider", "tests/test_backends.py", "-k", chosen)
    assert status == 0, printed
    assert int(re.search(r"(\d+) passed", printed)[1]) >= 30
    assert int(re.search(r"(\d+) skipped", printed)[1]) >= 30


BENCH = """
from pathlib import Path
from cudasim import SimulatedDevice
from gpubranches.engines.gpu import GpuBackend
from gpubranches.research.speed import own_engines
from gpubranches.research.speed.run import Plan, run
from gpubranches.research.speed.synthetic import SyntheticResidence

own_engines._open_gpu = lambda catalog: GpuBackend(catalog, SimulatedDevice, make_residence=SyntheticResidence)
own_engines._copy_speed = lambda name: 1e9
own_engines._UPLOADED = 1 << 20
names = ["gpu", "cpu", "kdtree", "numpy"]
run(Plan(names, [8192], D=128, clusters=8, embeddings_bytes=1 << 20, budget_s=0, users=2), Path(sys.argv[1]))
"""


def test_the_benchmark_runs_with_little_installed(tmp_path):
    """On the simulated device; what is left out or made otherwise is said."""
    status, printed = bare(BENCH, tmp_path)
    assert status == 0, printed
    for name in ("cpu", "kdtree"):
        assert f"{name} at 8,192 rows: left out: {name} needs numba" in printed
    lines = [json.loads(text) for text in (tmp_path / "bench.jsonl").read_text().splitlines()]
    assert {one["models"] for one in lines} == {"drawn around the marks"}
    assert {"ensemble", "scans of refine: boxes, bits, embeddings"} <= {one["what"] for one in lines}
    pooled = [(one["engine"], one["what"], one["found"]) for one in lines if "of the pool" in one["what"]]
    assert len(pooled) == 12
    assert {found for found in pooled if found[0] == "gpu"} == {("gpu", *found[1:]) for found in pooled}


def test_every_marked_case_is_collected_with_little_installed():
    modules = [f"tests/{name}.py" for name in ("test_kernels", *correctness.CONTRACT)]
    status, printed = bare(PYTEST, "-q", "-p", "no:cacheprovider", "--collect-only", "-m", "gpu", *modules)
    assert status == 0, printed
    marked = [name for name in printed.splitlines() if "::" in name]
    assert sum("test_backends.py" in name for name in marked) >= 50
    assert sum("test_kernels.py" in name for name in marked) >= 50
    for part in correctness.SANITIZED:
        assert any("test_kernels.py" in name and part in name for name in marked)


def test_the_status_page_is_that_of_the_results():
    assert (ROOT / "docs/gpu-status.md").read_text() == status.text()


def written(folder, *lines):
    """Write the findings of a correctness call where the page of the status looks for them."""
    results = folder / "benchmarks" / "results"
    results.mkdir(parents=True, exist_ok=True)
    for line in lines:
        record.add(record.path_of(results, "correctness"), **line)


RUN = {"step": "run", "date": "2026-01-02", "commit": "abc"}
CARD = {"step": "card", "card": "A Card"}
END = {"step": "kernels", "end": True, "seconds": 1.0, "problem": ""}


def passed(kernels, ok=True, step="kernels"):
    return {"step": step, "kernels": kernels, "ok": ok}


def test_a_verified_run_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(status, "ROOT", tmp_path)
    assert "No run has been made" in status.text()
    written(tmp_path, RUN, CARD, passed(["boxes", "bits", "rescore"]), passed(["bits"], ok=False))
    assert "| `boxes` | not verified by the last run |" in status.text()
    written(tmp_path, END, passed(["rescore"], ok=False, step="at_size"))
    page = status.text()
    assert "| `boxes` | 2026-01-02, commit abc, A Card |" in page
    for kernel in ("bits", "rescore", "allow"):
        assert f"| `{kernel}` | not verified by the last run |" in page
    assert "No run has been made" not in page


def test_measured_times_stand_beside_the_predicted(tmp_path, monkeypatch):
    monkeypatch.setattr(roofline, "RESULTS", tmp_path)
    assert roofline.measured() == {}
    path = record.path_of(tmp_path, "speed")
    for what, rows in [("ensemble", 262_602_752), ("single branch", 8192), ("upload", 262_602_752)]:
        record.add(path, step="goals", goal=what, rows=rows, p50_ms=7.0)
    assert roofline.measured() == {"ensemble, zones prune half": 7.0}
    assert set(roofline._LABELS) == set(speed.GOALS_MS)


def test_what_was_found_outlives_a_line_that_was_cut_short(tmp_path):
    path = tmp_path / "found.jsonl"
    record.add(path, step="card", ok=np.bool_(True))
    record.add(path, step="goals", rows=5)
    with path.open("a") as file:
        file.write('{"step": "goals", "ro')
    assert [line["step"] for line in record.read(path)] == ["card", "goals"]
    assert "| goals |  |  |  | cut short |" in record.page("speed", record.read(path))


def options(folder, call="correctness", step=None):
    return Namespace(
        call=call, out=folder, measured=folder / "measured.json", quick=True, commit="abc", step=step, share=None
    )


def test_a_step_that_fails_or_hangs_takes_nothing_with_it(tmp_path):
    """What it found until then stays, and the page says what became of it."""
    late = steps.Step("card", correctness.card, 60)
    assert steps.attempt(late, options(tmp_path), 0.5) == "not run: the time was spent"
    unheard = steps.Step("unheard of", correctness.card, 60)
    assert "StopIteration" in steps.attempt(unheard, options(tmp_path), 60)
    page = (tmp_path / "gpu-correctness.md").read_text()
    assert "the time was spent" in page
    assert "| unheard of |" in page


def test_each_finding_is_written_before_the_next_is_looked_for(tmp_path, monkeypatch):
    seen = []

    def work(given):
        for i in range(3):
            seen.append(len(record.read(tmp_path / "gpu-correctness.jsonl")))
            yield {"number": i}

    monkeypatch.setitem(steps.STEPS, "correctness", [steps.Step("own", work, 1)])
    steps.run_step(options(tmp_path, step="own"))
    assert seen == [0, 1, 2]


def test_the_limits_let_the_steps_that_teach_most_run_within_four_minutes():
    for call in steps.STEPS.values():
        assert call[0].name == "card"
        assert sum(step.limit_s for step in call[:4]) <= steps.BUDGET_S + 15
    assert steps.BUDGET_S < 240
    assert [step.name for step in steps.STEPS["correctness"]][-2:] == ["memcheck", "racecheck"]


@pytest.mark.parametrize("call", record.CALLS)
def test_a_call_whose_steps_all_hang_ends_within_four_minutes(tmp_path, monkeypatch, call):
    now, limits = [0.0], []

    def hangs(step, given, limit_s):
        limits.append(limit_s)
        now[0] += limit_s + processes._ENDING_S if limit_s >= 1 else 0
        return ""

    monkeypatch.setattr(verify, "attempt", hangs)
    monkeypatch.setattr(verify, "time", SimpleNamespace(monotonic=lambda: now[0], strftime=time.strftime))
    monkeypatch.setattr(sys, "argv", ["verify", call, "--out", str(tmp_path), "--commit", "abc"])
    verify.main()
    assert len(limits) == len(steps.STEPS[call])
    assert now[0] <= 235


def test_at_its_limit_a_command_is_ended_with_all_it_started(tmp_path):
    child = f"import time; open({str(tmp_path / 'begun')!r}, 'w').close(); time.sleep(600)"
    parent = f"import subprocess, sys; print('here', flush=True); subprocess.run([sys.executable, '-c', {child!r}])"
    limit_s = 0.5
    while not (tmp_path / "begun").exists():  # a busy machine needs longer to start both
        limit_s *= 2
        ended = processes.run([sys.executable, "-c", parent], limit_s)
    assert ended == (124, "here\n")


def test_a_child_that_escapes_its_command_delays_nothing(tmp_path, monkeypatch):
    """A child in a session of its own survives and holds the output open, as a process that waits for a card may."""
    monkeypatch.setattr(processes, "_ENDING_S", 2)
    parent = (
        "import pathlib, subprocess, sys, time; print('here', flush=True); "
        "child = subprocess.Popen(['sleep', '600'], start_new_session=True); "
        f"pathlib.Path({str(tmp_path / 'part')!r}).write_text(str(child.pid)); "
        f"pathlib.Path({str(tmp_path / 'part')!r}).rename({str(tmp_path / 'child')!r}); time.sleep(600)"
    )
    command = [sys.executable, "-c", parent]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    while not (tmp_path / "child").exists():
        assert started.poll() is None
        time.sleep(0.01)
    os.killpg(started.pid, signal.SIGKILL)
    try:
        assert processes._last_words(started) == "here\n"
    finally:
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)
        started.wait()


def test_segments_for_the_upload_are_those_of_a_catalog(tmp_path):
    catalog = speed.stored_codes(tmp_path, 5000, 2)
    residence = Residence(SimulatedDevice(), catalog)
    assert (residence.n_live, residence.resident.n_tiles) == (10_000, 4)
    assert set(residence.pages) == {"0", "1"}


@pytest.fixture
def simulated_card(monkeypatch):
    monkeypatch.setattr("gpubranches.engines.gpu.cupy_device.CupyDevice", SimulatedDevice)


def nearest_of(folder):
    """Run the step that compares the engines; return its findings."""
    for line in (RUN, {"step": "card", "card": SimulatedDevice.name}):
        record.add(record.path_of(folder, "speed"), **line)
    return list(nearest.nearest(options(folder, call="speed")))


class FaissOnCard(fake_faiss.BruteForce):
    """The names that the compared engines use. What works in another stream than CuPy's reads too early: noise."""

    METRIC_INNER_PRODUCT = 0
    GpuIndexIVFScalarQuantizerConfig = GpuIndexCagraConfig = SearchParametersCagra = SimpleNamespace

    class StandardGpuResources:
        ordered = False

        def setDefaultNullStreamAllDevices(self):
            self.ordered = True

    def bfKnn(self, resources, args):
        assert (args.metric, args.vectorType, args.device) == (self.METRIC_INNER_PRODUCT, self.DistanceDataType_F16, 0)
        vectors = fake_faiss.read(args.vectors, (args.numVectors, args.dims), np.float16).astype(np.float32)
        queries = fake_faiss.read(args.queries, (args.numQueries, args.dims), np.float16).astype(np.float32)
        scores = queries @ vectors.T if resources.ordered else np.zeros((args.numQueries, args.numVectors))
        rows = np.argsort(-scores, axis=1, kind="stable")[:, : args.k]
        best = np.take_along_axis(scores, rows, axis=1).astype(np.float32)
        for address, found in ((args.outDistances, best), (args.outIndices, rows)):
            ctypes.memmove(address, found.tobytes(), found.nbytes)

    def GpuIndexIVFScalarQuantizer(self, resources, D, lists, kind, metric, by_residual, config):
        assert resources.ordered
        real = self.faiss
        self.quantizer = real.IndexFlatIP(D)
        kind = real.ScalarQuantizer.QT_8bit
        return real.IndexIVFScalarQuantizer(self.quantizer, D, lists, kind, real.METRIC_INNER_PRODUCT, by_residual)

    def GpuIndexCagra(self, resources, D, metric, config):
        assert (resources.ordered, metric) == (True, self.METRIC_INNER_PRODUCT)
        flat = self.faiss.IndexFlatIP(D)

        def search(queries, k, params):
            assert params.itopk_size >= k
            return flat.search(queries, k)

        return SimpleNamespace(train=flat.add, search=search)


@pytest.mark.parametrize("name", nearest.ENGINES)
def test_an_engine_that_is_compared_finds_the_nearest(tmp_path, monkeypatch, name):
    made = FaissOnCard(pytest.importorskip("faiss", reason="faiss is not installed"))
    made.ScalarQuantizer = made.faiss.ScalarQuantizer
    monkeypatch.setitem(sys.modules, "faiss", made)
    place = importlib.util.spec_from_file_location("simulated_cupy", ROOT / "tests/rehearsal/cupy.py")
    cupy = importlib.util.module_from_spec(place)
    place.loader.exec_module(cupy)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    catalog = correctness.ClusteredCatalog(tmp_path / "c")
    for rows in (900, 300):
        catalog.append(rows)
    pages = [cupy.asarray(segment.embeddings) for segment in catalog.catalog.segments]
    queries = catalog.catalog.embeddings([5, 1100]).astype(np.float32)
    found = nearest.ENGINES[name](catalog.catalog, pages)(queries, 10)
    vectors = catalog.catalog.embeddings(np.arange(1200)).astype(np.float32)
    if "flat" in name:
        assert nearest._recall(found, np.argsort(-(queries @ vectors.T), axis=1)[:, :10]) == 1
        assert not np.array_equal(catalog.catalog.segments[0].ids, np.arange(900))  # rows are not numbered by ids
    else:
        away = vectors - catalog.catalog.signs.mean_
        cosines = (queries @ away.T) / np.linalg.norm(away, axis=1)
        assert found.shape == (2, 10 if name == "CAGRA" else 1000)
        assert nearest._recall(found, np.argsort(-cosines, axis=1)[:, :10]) >= 0.9


def test_the_step_writes_the_table_that_auto_reads(tmp_path, simulated_card, monkeypatch):
    monkeypatch.setattr("gpubranches.engines.faiss_index._faiss", lambda: fake_faiss.BruteForce(None))
    found = nearest_of(tmp_path)
    # The table is written before the other engines are compared, so that a call that is cut short has it.
    wrote = found.index({"wrote": "measured.json", "lines": 2})
    assert {line.get("engine") for line in found[wrote:]} >= {"kernels", "kernels, sign bits first"}
    table = Measured.read(tmp_path / "measured.json")
    assert (table.card, table.commit, table.date) == (SimulatedDevice.name, "abc", "2026-01-02")
    assert [(line.rows, line.k, line.batch, line.filter) for line in table.lines] == [
        (1000, 10, 1, False),
        (1000, 10, 1, True),
    ]
    engine, why = choose(table, SimulatedDevice.name, ("embeddings",), 1000, 10, 1)
    assert engine == ("faiss" if table.lines[0].faiss_ms < table.lines[0].kernel_ms else "kernel")
    assert "2026-01-02" in why
    told = [{"step": "nearest", **line} for line in found]
    page = record.page("speed", told)
    for name in ("kernels", "faiss, proven"):
        assert f"| {name} | 1,000 | 64 | 10 | 1 | none |" in page


def test_without_faiss_the_step_compares_what_is_there_and_writes_no_table(tmp_path, simulated_card, monkeypatch):
    def missing():
        raise BackendUnavailableError("--nn faiss needs faiss")

    monkeypatch.setattr("gpubranches.engines.faiss_index._faiss", missing)
    found = nearest_of(tmp_path)
    assert "faiss, proven: --nn faiss needs faiss" in [line.get("skipped") for line in found]
    assert {line["engine"] for line in found if "engine" in line} == {"kernels", "kernels, sign bits first"}
    assert any("faiss was not measured" in line.get("skipped", "") for line in found)
    assert not (tmp_path / "measured.json").exists()
