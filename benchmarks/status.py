"""Write docs/gpu-status.md from the results of scripts/gpu_verify: python -m benchmarks.status."""

from __future__ import annotations

import json
from pathlib import Path

from gpubranches.backends.gpu.sources import KERNELS

ROOT = Path(__file__).resolve().parents[1]
HEAD = """# What has run on a GPU

Made by `python -m benchmarks.status` from the files that `scripts/gpu_verify` writes to `benchmarks/results/`. A kernel
counts as verified by a run in which all of its tests passed on the card.

| kernel | last verified run |
|---|---|
"""
TAIL = """
Without a GPU the suite proves the kernels as far as that goes: their text runs on the processor under six schedules
of threads and equals NumPy (`tests/test_kernels.py`), the whole gpu backend passes the contract of all backends that
way (`tests/test_backends.py`), each barrier is shown to be needed and no two accesses to shared memory lack one
(`tests/test_kernel_mutations.py`), and NVRTC compiles them for seven architectures without spills (`tests/test_sass.py`). That says nothing of speed, of CuPy on a
real driver, of memory ordering, or of `gpubranches/backends/gpu/cupy_device.py`, whose calls are only held against
CuPy's documentation until a run is listed above. `benchmarks/results/roofline.md` has times predicted from the machine
code; they are no measurements. Nor has faiss on the card run (`--nn faiss`, the engine `faiss-gpu` of the benchmark):
its calls are held against faiss's documentation and a stand-in. Nor have catalogs whose embeddings are
decoded on the host and rescored on the card, or the way back to the host when a commit drops the embeddings. Nor has
`train-head --device cuda`, which `tests/test_train_head.py` tries where torch sees a card.
"""


def text() -> str:
    """Return the page."""
    results = sorted((ROOT / "benchmarks" / "results").glob("*-gpu.json"))
    runs = [json.loads(path.read_text()) for path in results]
    lines = []
    for kernel in KERNELS:
        verified = "never run on a GPU"
        for run in runs:
            found = run.get("tests", {}).get("kernels", {}).get(kernel, {})
            if found.get("passed") and not found.get("failed"):
                verified = f"{run['date']}, commit {run['commit']}, {run['card']}"
        lines.append(f"| `{kernel}` | {verified} |")
    what = "" if runs else "\nNo run has been made yet: no GPU number is claimed anywhere in this repository.\n"
    return HEAD + "\n".join(lines) + "\n" + what + TAIL


if __name__ == "__main__":
    (ROOT / "docs" / "gpu-status.md").write_text(text())
