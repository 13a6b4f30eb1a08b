"""What verifies the kernels on a card, run here as far as it goes: on the simulated device, with NumPy as reference."""

import json
import re
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from bare import bare
from cudasim import SimulatedDevice

from benchmarks import processes, status, verify
from benchmarks.at_size import check_at_size
from gpubranches.backends.gpu.residence import Residence
from gpubranches.backends.gpu.sources import KERNELS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("tiers", [("codes", "bits"), ("codes",)])
def test_the_check_at_size_passes_on_sound_kernels(tiers):
    found = check_at_size(SimulatedDevice, np, np.asarray, 20_000, tiers, k=50)
    assert len(found["checks"]) == (8 if "bits" in tiers else 7)
    assert all(found["checks"].values())


@pytest.mark.parametrize(
    ("kernel", "old", "new", "noticed"),
    [
        ("boxes", "majority(x[3], least, a.w)", "majority(x[3], least, a.z)", "boxes: total"),
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


def test_every_kernel_has_its_tests():
    assert set(verify.KERNEL_TESTS) == set(KERNELS)
    marked = [path for path in (ROOT / "tests").glob("test_*.py") if "marks=" + "pytest.mark.gpu" in path.read_text()]
    assert {path.stem for path in marked} == {"test_kernels", "test_backends"} < set(verify.TEST_MODULES)
    written = "".join(path.read_text() for path in marked)
    for names in verify.KERNEL_TESTS.values():
        assert all(f"def {name}" in written for name in names)
    kernel_tests = (ROOT / "tests" / "test_kernels.py").read_text()
    assert all(re.search(rf"def test_\w*{one}|^SIZES = .*\b{one}\b", kernel_tests, re.M) for one in verify.SANITIZED)


PYTEST = "import pytest; sys.exit(pytest.main(sys.argv[1:]))"


def test_the_contract_runs_with_little_installed():
    """The cases of the gpu backend on the simulated device, where a card would run those marked `gpu`; not kdtree's."""
    chosen = "(gpu or kdtree) and not 8200 and (ties or size or commits or boxes or directions or models or refused)"
    status, printed = bare(PYTEST, "-q", "-p", "no:cacheprovider", "tests/test_backends.py", "-k", chosen)
    assert status == 0, printed
    assert int(re.search(r"(\d+) passed", printed)[1]) >= 30
    assert int(re.search(r"(\d+) skipped", printed)[1]) >= 30


STEPS = """
from pathlib import Path
import numpy as np
from cudasim import SimulatedDevice
from benchmarks import verify
from benchmarks.at_size import check_at_size
from gpubranches.backends.gpu import GpuBackend
from gpubranches.backends.gpu.residence import Residence
from gpubranches.bench import own_engines
from gpubranches.bench.run import Plan
from gpubranches.bench.synthetic import SyntheticResidence

folder = Path(sys.argv[1])
tiers = ("codes", "bits")
print(check_at_size(SimulatedDevice, np, np.asarray, 20_000, tiers, k=50))
print(Residence(SimulatedDevice(), verify.stored_codes(folder / "stored", 5000, 2)).n_live)
own_engines._open_gpu = lambda catalog: GpuBackend(catalog, SimulatedDevice, make_residence=SyntheticResidence)
own_engines._copy_speed = lambda name: 1e9
own_engines._UPLOADED = 1 << 20
names = ["gpu", "cpu", "kdtree", "numpy"]
verify.run_bench(Plan(names, [8192], D=128, clusters=8, embeddings_bytes=1 << 20, budget_s=0, users=2), folder)
"""


def test_the_steps_run_with_little_installed(tmp_path):
    """Every step that needs no CUDA itself, on the simulated device; what is left out or made otherwise is said."""
    status, printed = bare(STEPS, tmp_path)
    assert status == 0, printed
    for name in ("cpu", "kdtree"):
        assert f"{name} at 8,192 rows: left out: {name} needs numba" in printed
    assert "'models': 'drawn around the marks'" in printed
    assert "False" not in printed
    lines = [json.loads(text) for text in (tmp_path / "bench.jsonl").read_text().splitlines()]
    assert {one["models"] for one in lines} == {"drawn around the marks"}
    assert {"ensemble", "scans of refine: boxes, bits, embeddings"} <= {one["what"] for one in lines}
    pooled = [(one["engine"], one["what"], one["found"]) for one in lines if "of the pool" in one["what"]]
    assert len(pooled) == 12
    assert {found for found in pooled if found[0] == "gpu"} == {("gpu", *found[1:]) for found in pooled}


def test_every_marked_case_is_collected_with_little_installed():
    modules = [f"tests/{name}.py" for name in verify.TEST_MODULES]
    status, printed = bare(PYTEST, "-q", "-p", "no:cacheprovider", "--collect-only", "-m", "gpu", *modules)
    assert status == 0, printed
    marked = [name for name in printed.splitlines() if "::" in name]
    assert sum("test_backends.py" in name for name in marked) >= 50
    assert sum("test_kernels.py" in name for name in marked) >= 50


def test_the_status_page_is_that_of_the_results():
    assert (ROOT / "docs/gpu-status.md").read_text() == status.text()


def test_a_verified_run_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(status, "ROOT", tmp_path)
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    kernels = {"boxes": {"passed": 9, "failed": 0}, "bits": {"passed": 3, "failed": 1}}
    run = {"date": "2026-01-02", "commit": "abc", "card": "A Card", "tests": {"kernels": kernels}}
    (results / "2026-01-02-a-card-gpu.json").write_text(json.dumps(run))
    page = status.text()
    assert "| `boxes` | 2026-01-02, commit abc, A Card |" in page
    assert "| `bits` | never run on a GPU |" in page
    assert "No run has been made" not in page


def test_the_summary_names_every_step():
    results = {"card": "A", "commit": "b", "cuda_runtime": 1, "cupy": "2", "tests": {"passed": 1, "failures": ["x"]}}
    problems = {"at_size": "exit status 1: out of memory", "bench": "stopped after 9 s: it hung"}
    text = verify.summary({**results, "at_size": None, "bench": None, "problems": problems})
    assert "out of memory" in text
    assert "it hung" in text
    assert verify.roofline([]) == verify.roofline(None) == {}


def test_a_step_that_fails_or_hangs_takes_nothing_with_it(tmp_path, monkeypatch):
    options = Namespace(quick=True, into=tmp_path / "found.json")
    found, problem = verify.attempted("upload", options, 0.5)
    assert (found, problem) == (None, "not run: the time was spent")
    monkeypatch.setattr(verify, "ISOLATED", {"unheard of": None})
    found, problem = verify.attempted("unheard of", options, 60)
    assert found is None
    assert problem.startswith("exit status 2")
    assert "invalid choice" in problem
    monkeypatch.setattr(verify, "tests", lambda *args: 1 / 0)
    assert "ZeroDivisionError" in verify.attempted("tests", options, 60)[1]


def test_at_its_limit_a_command_is_ended_with_all_it_started(tmp_path):
    child = f"import time; open({str(tmp_path / 'begun')!r}, 'w').close(); time.sleep(600)"
    parent = f"import subprocess, sys; print('here', flush=True); subprocess.run([sys.executable, '-c', {child!r}])"
    assert processes.run([sys.executable, "-c", parent], 3) == (124, "here\n")
    assert (tmp_path / "begun").exists()


def test_what_a_step_finds_is_kept_as_it_goes(tmp_path):
    into = tmp_path / "found.json"
    for found in ([], [np.bool_(True), {"rows": 5}]):
        processes.save(into, found)
        assert len(json.loads(into.read_text())) == len(found)
    (tmp_path / "bench.jsonl").write_text('{"rows": 7}\n')
    verify._keep(Namespace(into=into), [{"rows": 6}], tmp_path / "bench.jsonl", "a line")
    assert json.loads(into.read_text()) == [{"rows": 6}, {"rows": 7}]


def test_segments_for_the_upload_are_those_of_a_catalog(tmp_path):
    catalog = verify.stored_codes(tmp_path, 5000, 2)
    residence = Residence(SimulatedDevice(), catalog)
    assert (residence.n_live, residence.resident.n_tiles) == (10_000, 4)
    assert set(residence.pages) == {"0", "1"}
