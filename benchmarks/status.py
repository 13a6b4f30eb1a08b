"""Write docs/gpu-status.md from the results of scripts/gpu_verify: python -m benchmarks.status."""

from __future__ import annotations

from pathlib import Path

from benchmarks.verify.record import finished, kernels, path_of, read
from gpubranches.engines.gpu.sources import KERNELS

ROOT = Path(__file__).resolve().parents[1]
HEAD = """# What has run on a GPU

Written by `python -m benchmarks.status` from the results of `scripts/gpu_verify correctness` in
`benchmarks/results/`. A run verifies a kernel if its tests of the kernels finished and no check of this kernel failed.

| kernel | last verified run |
|---|---|
"""
TAIL = """
Without a GPU the suite checks the kernels in these ways:

- The source of the kernels runs on the processor under four schedules of threads and equals NumPy
  (`tests/test_kernels.py`).
- The whole gpu backend passes the contract of all backends in the same way (`tests/test_backends.py`).
- Each barrier is shown to be needed, and no two accesses to shared memory lack one (`tests/test_kernel_mutations.py`).
- NVRTC compiles the kernels for seven architectures without spills (`tests/test_sass.py`).
- CuPy's wheel compiles them for three architectures without a card (`tests/test_cupy_wheel.py`), and does not run them.
  It packs the arguments of a launch only where a driver is.
- Both calls of `scripts/gpu_verify` are rehearsed with a stand-in for CuPy (`tests/test_verify_rehearsal.py`).

These tests do not cover speed, CuPy on a real driver, the memory ordering of a card, or
`gpubranches/engines/gpu/cupy_device.py`. The calls in that file are only compared with CuPy's documentation until a
run is listed above. `benchmarks/results/roofline.md` has times predicted from the machine code; they are no
measurements.

These parts have not run on a card either:

- faiss (`--nn faiss`, over codes and over resident embeddings, the engine `faiss-gpu` of the benchmark, and the calls
  of `benchmarks/verify/nearest.py`). Its calls are checked against faiss's documentation and a stand-in. Until the
  times of faiss and of the kernels are measured on a card, `--nn auto` uses the kernels.
- Catalogs whose embeddings are decoded on the host and rescored on the card, and the way back to the host when a commit
  drops the embeddings.
- `train-head --device cuda`, which `tests/test_train_head.py` tries where torch sees a card.
- Models of pictures and texts on a card: half precision, batches sized to its memory, what happens when it is full.
  `tests/test_encoders.py` and `tests/test_embedding.py` simulate a card.
- `serve --backend ray --gpus`: shards with a card each. `tests/test_sharded.py` runs them over simulated devices.
"""


def text() -> str:
    """Return the page."""
    found = read(path_of(ROOT / "benchmarks" / "results", "correctness"))
    facts = {name: value for line in found if line["step"] in ("run", "card") for name, value in line.items()}
    counts = kernels(found) if finished(found, "kernels") else {}
    lines = []
    for kernel in KERNELS:
        own = counts.get(kernel, {"passed": 0, "failed": 0})
        verified = "never run on a GPU" if not found else "not verified by the last run"
        if own["passed"] and not own["failed"]:
            verified = f"{facts['date']}, commit {facts['commit']}, {facts['card']}"
        lines.append(f"| `{kernel}` | {verified} |")
    what = "" if found else "\nNo run has been made yet: no GPU number is claimed anywhere in this repository.\n"
    return HEAD + "\n".join(lines) + "\n" + what + TAIL


if __name__ == "__main__":
    (ROOT / "docs" / "gpu-status.md").write_text(text())
