"""CupyDevice over a stand-in for CuPy: its staging, errors and caching. CuPy itself is for a card to test."""

import sys

import fake_cupy
import numpy as np
import pytest

from gpubranches.backends.gpu import cupy_device
from gpubranches.backends.gpu.cupy_device import CupyDevice
from gpubranches.errors import BackendUnavailableError, DeviceError, DeviceMemoryError, KernelCompileError


@pytest.fixture
def cupy(monkeypatch):
    made = fake_cupy.make()
    monkeypatch.setitem(sys.modules, "cupy", made)
    return made


def test_large_arrays_pass_through_two_stages(cupy, monkeypatch):
    monkeypatch.setattr(cupy_device, "_STAGE_BYTES", 1000)
    device = CupyDevice()
    source = np.random.default_rng(0).integers(0, 2**31, (7, 500)).astype(np.uint32)
    target = device.empty(source.shape, source.dtype)
    device.upload(source, target)
    assert np.array_equal(device.get(target), source)
    copies = [entry[1] for entry in cupy.log if isinstance(entry, tuple) and entry[0] == "copy"]
    assert copies == [1000] * 14
    device.upload(np.zeros((0, 4), np.float16), device.empty((0, 4), np.float16))
    device.close()
    assert cupy.log[-2:] == ["null", "freed"]


def test_small_arrays_come_back(cupy):
    device = CupyDevice()
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert np.array_equal(device.get(device.put(array)), array)
    empty = device.empty((3, 4), np.uint16)
    device.zero(empty)
    assert not device.get(empty).any()
    assert device.address(empty) == empty.ctypes.data
    assert (device.name, device.multiprocessors) == ("A Card", 3)


def test_order_is_by_keys_then_ties(cupy):
    rng = np.random.default_rng(0)
    keys, ties = rng.integers(0, 5, 300).astype(np.uint32), rng.permutation(300).astype(np.uint64)
    assert np.array_equal(CupyDevice().order(keys, ties), np.lexsort((ties, keys)))


def test_a_module_is_compiled_once_for_its_constants(cupy):
    device = CupyDevice()
    for d in (8, 8, 12):
        for entry in ("quantize", "quantize_zones"):
            device.launch("quantize", entry, {"D": d}, (2, 1), 256, [1, 2])
    assert cupy.log.count("module") == 2
    assert cupy.log.count("function") == 4
    assert cupy.log[-1] == ("quantize_zones", (2, 1), (256,), 2)


def test_a_kernel_that_does_not_compile_gives_its_log(cupy):
    with pytest.raises(KernelCompileError, match=r"quantize\.cu.*identifier is undefined"):
        CupyDevice().launch("quantize", "broken", {"D": 8}, (1, 1), 32, [])


def test_a_lack_of_memory_names_the_bytes_and_frees_what_is_unused(cupy):
    device = CupyDevice()
    with pytest.raises(DeviceMemoryError, match=r"expected 2,147,483,648 bytes .* got 1,073,741,824"):
        device.empty(1 << 31, np.uint8)
    assert cupy.log[-1] == "freed"
    assert device.empty(10, np.uint8).shape == (10,)


def test_a_lack_of_memory_for_a_module_is_one_too(cupy):
    device = CupyDevice()
    cupy.failing = fake_cupy.CUDADriverError("CUDA_ERROR_OUT_OF_MEMORY: out of memory")
    cupy.failing.status = 2
    with pytest.raises(DeviceMemoryError, match="OUT_OF_MEMORY"):
        device.launch("quantize", "quantize", {"D": 8}, (1, 1), 32, [])


def test_a_failure_of_the_card_is_a_device_error(cupy):
    device = CupyDevice()
    cupy.failing = fake_cupy.CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")
    with pytest.raises(DeviceError, match="illegal memory access"):
        device.synchronize()
    device.close()
    assert "freed" in cupy.log


def test_without_a_device_the_cure_is_named(cupy):
    cupy.cuda.is_available = lambda: False
    with pytest.raises(BackendUnavailableError, match="nvidia-smi"):
        CupyDevice()
