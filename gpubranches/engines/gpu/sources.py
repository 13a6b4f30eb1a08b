"""The source of a kernel to compile: its constants, the text that all kernels share, and its own file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from gpubranches.core.assets import folder

KERNELS = ("boxes", "nearest", "linear", "bits", "rescore", "select", "quantize", "allow", "synthetic")


@cache
def _text(name: str) -> str:
    return (folder("kernels") / name).read_text(encoding="utf-8")


def source(kernel: str, constants: Mapping[str, int]) -> str:
    """Return the source of a kernel file, e.g. "boxes", with one line for each of its constants in front.

    common.cuh is inserted, not included: CuPy's cache on disk identifies a kernel by its text, and CUDA's own headers
    by the version of NVRTC.
    """
    lines = [f"constexpr unsigned {name} = {value};" for name, value in sorted(constants.items())]
    return "\n".join([*lines, _text("common.cuh"), _text(f"{kernel}.cu")])
