"""CupyDevice over a stand-in for CuPy: its staging, errors and caching. CuPy itself is for a card to test."""

import json
import logging
import re
import sys
from functools import partial

import fake_cupy
import numpy as np
import pytest
from click.testing import CliRunner
from test_device_worker import asked_together
from worlds import World

from gpubranches import open_backend
from gpubranches.cli import cli
from gpubranches.engines.gpu import cupy_device
from gpubranches.engines.gpu.cupy_device import CupyDevice, check, usable
from gpubranches.engines.gpu.device_worker import DeviceWorker
from gpubranches.errors import CatalogFormatError, DeviceError, DeviceMemoryError, KernelCompileError
from gpubranches.service import doctor


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


def test_small_arrays_travel_together(cupy):
    device = CupyDevice()
    arrays = [np.arange(5, dtype=np.uint8), np.zeros((0, 4), np.uint32), np.arange(6.0).reshape(2, 3), np.uint64([7])]
    sent = []
    put = device.put
    device.put = lambda array: sent.append(array.nbytes) or put(array)
    for array, found in zip(arrays, device.put_all(arrays), strict=True):
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert np.array_equal(device.get(found), array)
        assert array.nbytes == 0 or (device.address(found) - device.address(device.put_all(arrays)[0])) % 16 == 0
    assert sent[0] == 3 * 256


def test_order_is_by_keys_then_ties(cupy):
    rng = np.random.default_rng(0)
    keys, ties = rng.integers(0, 5, 300).astype(np.uint32), rng.permutation(300).astype(np.uint64)
    assert np.array_equal(CupyDevice().order(keys, ties), np.lexsort((ties, keys)))


def test_a_module_is_compiled_once_for_its_constants(cupy):
    device = CupyDevice()
    cupy.log.clear()
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


def test_memory_is_counted_until_it_is_freed(cupy):
    device = CupyDevice()
    cupy.card.limit = 1_000_000
    free = device.memory()[0]
    a, b = device.empty(600_000, np.uint8), device.put(np.zeros(1000, np.uint8))
    assert device.memory()[0] == free - 601_000
    with pytest.raises(DeviceMemoryError, match=f"got {free - 601_000:,} "):
        device.empty(600_000, np.uint8)
    del a, b
    assert cupy.card.kept == 601_000
    device.trim()
    assert (cupy.card.kept, device.memory()[0]) == (0, free)


def test_a_batch_that_lacks_memory_is_answered_after_a_split(cupy):
    """What the failed attempt holds, in frames down the chain of causes, is free before the next one."""
    devices = []
    worker = DeviceWorker("test", lambda: None, lambda: [device.trim() for device in devices])
    devices.append(device := worker.call(CupyDevice))
    cupy.card.limit = 1_000_000

    def run_batch(items):
        held = [device.empty(200_000, np.uint8) for _ in items]
        order = device.order(device.put(np.arange(3)), device.put(np.arange(3)))
        return [int(item + len(one) * 0 + device.get(order)[0]) for item, one in zip(items, held, strict=True)]

    found = asked_together(worker, [partial(worker.submit, "key", i, run_batch) for i in range(8)])
    worker.close()
    assert found == list(range(8))
    assert cupy.card.used == 0


# What is missing


def headers_missing(cupy):
    log = 'kern.cu(3): catastrophic error: cannot open source file "cuda_fp16.h"\n1 catastrophic error detected'
    cupy.broken["module"] = fake_cupy.CompileException(log)


def compiler_missing(cupy):
    cupy.broken["module"] = RuntimeError("CuPy failed to load libnvrtc.so.13: OSError: no such file")


def toolkit_missing(cupy):
    cupy.broken["module"] = ImportError("No module named 'cuda.pathfinder'")


def driver_too_old(cupy):
    def fail():
        raise fake_cupy.CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")

    cupy.cuda.runtime.getDeviceCount = fail


def no_card(cupy):
    cupy.cuda.runtime.getDeviceCount = lambda: 0


def full_card(cupy):
    cupy.card.limit = 100


def kernel_wrong(cupy):
    cupy.kernels["allow_both"] = lambda a, b, n, out: out.fill(0)


def launch_fails(cupy):
    def fail(*args):
        raise fake_cupy.CUDADriverError("CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel image is available")

    cupy.kernels["allow_both"] = fail


def card_lost(cupy):
    def fail(*args):
        cupy.broken["free"] = fake_cupy.CUDARuntimeError("cudaErrorIllegalAddress: reported by every later call")
        raise fake_cupy.CUDADriverError("CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access")

    cupy.kernels["allow_both"] = fail


def sort_missing(cupy):
    cupy.broken["sort"] = RuntimeError("thrust is not built for this card")


def sort_needs_what_is_not_there(cupy):
    cupy.broken["sort"] = fake_cupy.CompileException("cannot open source file cupy/carray.cuh")


MISSING = [
    (no_card, "card", "nvidia-smi"),
    (driver_too_old, "card", "InsufficientDriver.*nvidia-smi"),
    (compiler_missing, "kernel", r"libnvrtc.*gpu-cu13"),
    (toolkit_missing, "kernel", r"pathfinder.*gpu-cu13"),
    (headers_missing, "kernel", r"headers.*cuda_fp16\.h.*gpu-cu13"),
    (full_card, "kernel", "bytes of free device memory"),
    (kernel_wrong, "kernel", "expected .* got "),
    (launch_fails, "kernel", "no kernel image"),
    (card_lost, "kernel", "illegal memory access"),
    (sort_missing, "sort", r"thrust.*gpu-cu13"),
    (sort_needs_what_is_not_there, "sort", r"carray.*gpu-cu13"),
]


@pytest.mark.parametrize(("spoil", "stage", "told"), MISSING, ids=lambda one: getattr(one, "__name__", ""))
class TestWhatIsMissing:
    """What cannot be used is found when the card is taken, not at the first question, and told in one line."""

    def test_a_card_that_cannot_be_used_is_refused(self, cupy, tmp_path, spoil, stage, told):
        spoil(cupy)
        world = World(tmp_path / "c", [100])
        with pytest.raises(DeviceError, match=told) as raised:
            open_backend("gpu", world.catalog)
        assert raised.value.exit_code == 4
        assert "cpu backend" in str(raised.value)
        assert usable() == " ".join(str(raised.value).split())
        assert "\n" not in usable()

    def test_auto_takes_the_cpu_backend_and_says_why(self, cupy, tmp_path, caplog, spoil, stage, told):
        pytest.importorskip("numba")
        spoil(cupy)
        world = World(tmp_path / "c", [100])
        with caplog.at_level(logging.INFO), open_backend("auto", world.catalog) as backend:
            assert backend.name == "cpu"
        (line,) = [one for one in caplog.records if "backend auto" in one.getMessage()]
        assert re.search(f"uses cpu, since .*{told}", line.getMessage())
        assert "\n" not in line.getMessage()
        assert line.levelno == (logging.INFO if stage == "card" else logging.WARNING)

    def test_doctor_shows_the_stages(self, cupy, spoil, stage, told):
        spoil(cupy)
        (found,) = [one for one in doctor.examine() if one.part == "GPU"]
        assert re.match(rf"(\w+ ok \d+\.\d\d s, )*{stage} failed \d+\.\d\d s", found.state)
        assert re.search(told, found.advice)
        assert not found.usable


def test_a_card_that_can_be_used_passes_every_stage(cupy):
    assert [(one.name, one.problem) for one in check()] == [(name, "") for name in ("CuPy", "card", "kernel", "sort")]
    assert usable() is None
    (found,) = [one for one in doctor.examine() if one.part == "GPU"]
    assert re.match(r"CuPy ok \d+\.\d\d s, card ok .*kernel ok .*sort ok ", found.state)
    assert found.usable
    assert cupy.log[-1] == "freed"


def test_a_wheel_without_its_libraries_is_refused(monkeypatch):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "cupy":
                raise OSError("libcudart.so.13: cannot open\nshared object file")

    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    assert re.search(r"CuPy.*libcudart\.so\.13: cannot open shared object file.*gpu-cu13", usable())


def test_auto_takes_the_cpu_backend_where_the_codes_do_not_fit(tmp_path, cupy, caplog):
    pytest.importorskip("numba")
    world = World(tmp_path / "c", [100])
    cupy.card.limit = 1 << 20  # the working memory alone is more
    with caplog.at_level(logging.WARNING), open_backend("auto", world.catalog) as backend:
        assert backend.name == "cpu"
    assert re.search("uses cpu, since expected .* bytes of free device memory", caplog.text)
    with pytest.raises(DeviceMemoryError, match="bytes of free device memory"):
        open_backend("gpu", world.catalog)


def test_auto_takes_no_other_backend_for_a_damaged_catalog(tmp_path, cupy):
    world = World(tmp_path / "c", [100])
    path = world.catalog.segments[0].folder / "codes.u8"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    with pytest.raises(CatalogFormatError, match=r"codes\.u8"):
        open_backend("auto", world.catalog)


def test_auto_takes_the_card_that_can_be_used(tmp_path, cupy):
    world = World(tmp_path / "c", [100])
    with open_backend("auto", world.catalog) as backend:
        assert (backend.name, backend.info()["device"]) == ("gpu", "A Card")


def test_info_tells_the_plan_and_who_answers_the_nearest(tmp_path, cupy):
    world = World(tmp_path / "c", [100])
    done = CliRunner().invoke(cli, ["info", str(world.catalog.path), "--backend", "gpu", "--json"])
    told = json.loads(done.output)["gpu"]
    assert (told["device"], told["verdict"]) == ("A Card", "fits")
    assert told["nearest"]["embeddings"] == "kernel"
    assert "not been measured on A Card" in told["nearest"]["why"]
