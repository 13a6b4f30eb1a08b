"""What NVRTC makes of each kernel on seven architectures: no spills, wide loads, the instructions it is built on."""

from functools import cache

import pytest

pytest.importorskip("cuda.bindings.nvrtc", reason="the NVRTC wheels are not installed")

from benchmarks.sass import ARCHITECTURES, compile_text
from gpubranches.backends.gpu.program import MOST_BOXES
from gpubranches.backends.gpu.sources import KERNELS, source

CODES = {"WARPS": 4}
VARIANTS = [
    ("boxes", {"D": 32, "VOTE_PLANES": 5, "BITMAP": 0, "MOST_BOXES": MOST_BOXES, **CODES}),
    ("boxes", {"D": 1024, "VOTE_PLANES": 16, "BITMAP": 1, "MOST_BOXES": MOST_BOXES, **CODES}),
    ("nearest", {"D": 32, "QUERIES": 1, **CODES}),
    ("nearest", {"D": 1024, "QUERIES": 4, **CODES}),
    ("linear", {"D": 32, "MODELS": 1, **CODES}),
    ("linear", {"D": 32, "MODELS": 4, **CODES}),
    ("bits", {"BITS_WORDS": 16, "LANES": 4, "CHUNKS": 1, "HELD": 4, "MOST_MODELS": 64, **CODES}),
    ("bits", {"BITS_WORDS": 64, "LANES": 4, "CHUNKS": 4, "HELD": 1, "MOST_MODELS": 64, **CODES}),
    ("rescore", {"WIDTH": 512, "COSINE": 1, "LISTED": 0, "STAGED": 0, **CODES}),
    ("rescore", {"WIDTH": 512, "COSINE": 0, "LISTED": 1, "STAGED": 1, **CODES}),
    ("select", {}),
    ("quantize", {"D": 32}),
    ("allow", {}),
    ("synthetic", {"D": 32, "WORDS": 16, "BITS_WORDS": 16}),
]


@cache
def compiled(kernel, constants, architecture):
    return compile_text(source(kernel, dict(constants)), architecture)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("kernel", "constants"), VARIANTS, ids=str)
def test_machine_code(kernel, constants, architecture):
    functions = compiled(kernel, tuple(constants.items()), architecture)
    for function in functions.values():
        assert function.spilled_bytes == 0
        assert function.count("STL") == function.count("LDL") == 0
        assert function.registers <= 168
    wide = {name: function.count("LDG", also=".128") for name, function in functions.items()}
    if kernel == "boxes":
        assert wide["boxes"] >= 2 + 4
        assert functions["boxes"].count("LDS") > 0
    if kernel in ("nearest", "linear"):
        each = constants["QUERIES"] + 1 if kernel == "nearest" else constants["MODELS"]
        kind = "IDP.4A.U8.U8" if kernel == "nearest" else "IDP.4A.S8.S8"
        assert wide[kernel] % 4 == 0
        assert wide[kernel] >= 4
        assert functions[kernel].count(kind) % (16 * each) == 0
        assert functions[kernel].count(kind) >= 16 * each
    if kernel == "bits":
        assert wide["bits"] >= 4 + 4
        assert functions["bits"].count("POPC") >= 4 * 3 * 4


def test_every_kernel_is_compiled():
    assert {kernel for kernel, _ in VARIANTS} == set(KERNELS)
