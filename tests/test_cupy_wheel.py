"""CuPy's own wheel without a card: the names that are used of it, its errors, and its compiler over every kernel."""

import types

import fake_cupy
import pytest

from benchmarks.roofline.sass import VARIANTS, headers
from gpubranches.engines.gpu import cupy_device
from gpubranches.engines.gpu.cupy_device import usable
from gpubranches.engines.gpu.sources import source

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")

OF_THE_STAND_IN = {"log", "failing", "broken", "card", "kernels"}


def names(namespace, path=""):
    """Yield the dotted names of the stand-in and of its classes, where CuPy has the same ones."""
    for name, value in vars(namespace).items():
        if name.startswith("_") or name == "ptr" or (not path and name in OF_THE_STAND_IN):
            continue  # streams and memory have a ptr once they are made
        yield f"{path}{name}"
        if isinstance(value, types.SimpleNamespace) or (isinstance(value, type) and path == "cuda."):
            yield from names(value, f"{path}{name}.")


@pytest.mark.parametrize("name", list(names(fake_cupy.make())))
def test_every_name_of_the_stand_in_is_cupys(name):
    found = cupy
    for part in name.split("."):
        found = getattr(found, part)


def test_a_lack_of_memory_has_the_status_that_is_asked_for():
    error = cupy.cuda.runtime.CUDARuntimeError(cupy_device._OUT_OF_MEMORY)
    assert error.status == cupy_device._OUT_OF_MEMORY
    assert "cudaErrorMemoryAllocation" in str(error)


@pytest.mark.skipif(headers() is None, reason="CUDA's headers are not installed: nvidia-cuda-runtime")
@pytest.mark.parametrize("architecture", [75, 90, 120])
@pytest.mark.parametrize(("kernel", "constants"), VARIANTS, ids=str)
def test_cupy_compiles_every_kernel(kernel, constants, architecture, monkeypatch):
    """With the options it adds itself; what it asks a card, its architecture, and the headers' folder are given."""
    compiler = cupy.cuda.compiler
    monkeypatch.setattr(compiler, "_get_arch_for_options_for_nvrtc", lambda arch=None: (f"-arch=sm_{arch}", "cubin"))
    options = (*cupy_device._OPTIONS, "-ftz=true", f"-I{headers()}")
    made, _ = compiler.compile_using_nvrtc(source(kernel, constants), options, arch=str(architecture))
    assert made.startswith(b"\x7fELF")


def test_without_a_card_it_says_what_cupy_sees():
    if cupy.cuda.is_available():
        assert usable() is None
    else:
        assert "CuPy sees none" in usable()
        assert "nvidia-smi" in usable()
