"""What NVRTC makes of each kernel on seven architectures: no spills, wide loads, the instructions it is built on.

The suite compiles each variant of a kernel for two architectures, so that all variants together meet all of them.
"""

from functools import cache

import pytest
from drawn import EVERY

pytest.importorskip("cuda.bindings.nvrtc", reason="the NVRTC wheels are not installed")

from benchmarks.roofline.sass import ARCHITECTURES, VARIANTS, compile_text, headers
from gpubranches.engines.gpu.sources import KERNELS, source

pytestmark = pytest.mark.skipif(headers() is None, reason="CUDA's headers are not installed: nvidia-cuda-runtime")


@cache
def compiled(kernel, constants, architecture):
    return compile_text(source(kernel, dict(constants)), architecture)


def cases():
    for number, (kernel, constants) in enumerate(VARIANTS):
        for place, architecture in enumerate(ARCHITECTURES):
            if EVERY or (place - number) % len(ARCHITECTURES) in (0, 3):
                yield pytest.param(kernel, constants, architecture, id=f"{kernel}-{number}-{architecture}")


@pytest.mark.parametrize(("kernel", "constants", "architecture"), list(cases()))
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
        each = constants["n_queries"] + 1 if kernel == "nearest" else constants["n_models"]
        kind = "IDP.4A.U8.U8" if kernel == "nearest" else "IDP.4A.S8.S8"
        assert wide[kernel] % 4 == 0
        assert wide[kernel] >= 4
        assert functions[kernel].count(kind) % (16 * each) == 0
        assert functions[kernel].count(kind) >= 16 * each
    if kernel == "bits":
        assert wide["bits"] >= 4 + 4
        assert functions["bits"].count("POPC") >= 4 * 3 * 4
        assert functions["bits"].shared_bytes == 0
    if kernel == "boxes":
        assert functions["boxes"].shared_bytes == 0
    if kernel == "rescore" and constants["embedding_dim"] % 8 == 0:
        # Of each 8 halves one load, and two each of what is taken off and of the weights.
        assert wide["rescore"] == 5 * -(-constants["embedding_dim"] // 256)
        assert functions["rescore"].count("LDG", also=".U16") == 0


def test_every_kernel_is_compiled():
    assert {kernel for kernel, _ in VARIANTS} == set(KERNELS)
