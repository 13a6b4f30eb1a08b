"""The text of the kernels as the loader hands it to a compiler, and what the launchers ask of a launch."""

import re

import numpy as np
import pytest
from cudasim import SimulatedDevice, SimulationError
from test_kernels import Table, random_boxes

from gpubranches.core.boxes import Boxes
from gpubranches.engines.gpu import launchers
from gpubranches.engines.gpu.launchers import SINK_WORDS
from gpubranches.engines.gpu.program import MOST_BOXES, MOST_MODELS, compile_boxes
from gpubranches.engines.gpu.sources import KERNELS, source


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_is_one_text(kernel):
    """Constants come first; only CUDA's own header is included, whose version a cache knows by that of NVRTC."""
    text = source(kernel, {"dim": 8})
    assert text.startswith("constexpr unsigned dim = 8;\n")
    assert f"// {kernel}: " in text
    assert re.findall(r"#\s*include\s*(\S+)", text) == ["<cuda_fp16.h>"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_kernel_defines_a_macro(kernel):
    """CUDA's headers have parameters and members named D, ALL or TILE, which a macro would break."""
    assert not re.search(r"#\s*define", source(kernel, {"dim": 8}))


def test_halves_are_converted_by_cuda():
    for kernel in ("bits", "rescore"):
        assert "__half2float(" in source(kernel, {})
        assert "half_to_float" not in source(kernel, {})


def launched(monkeypatch, run):
    """Return the dynamic shared memory of each launch."""
    asked = []
    launch = SimulatedDevice.launch

    def noted(self, file, entry, constants, grid, threads, args, shared_bytes=0):
        asked.append(shared_bytes)
        launch(self, file, entry, constants, grid, threads, args, shared_bytes)

    monkeypatch.setattr(SimulatedDevice, "launch", noted)
    run()
    return asked


@pytest.mark.parametrize("models", [1, 3, MOST_MODELS])
def test_shared_memory_of_bits_is_that_of_its_models(models, monkeypatch):
    table = Table(300, d=4, D=64)
    planes = [table.signs.planes(table.rng.standard_normal(64).astype(np.float32)) for _ in range(models)]
    sinks = table.device.put(np.zeros((models, SINK_WORDS), np.uint64))
    asked = launched(monkeypatch, lambda: launchers.bits(table.on, table.allowed, planes, 1, sinks))
    assert asked == [4 * 128 * models]


@pytest.mark.parametrize("boxes", [2, 60, 3 * MOST_BOXES])
def test_shared_memory_of_boxes_is_that_of_the_largest_chunk(boxes, monkeypatch):
    table = Table(300)
    program = compile_boxes([random_boxes(table.rng, 8, boxes, 1), Boxes([], n_estimators=1)], 1)
    sinks = table.device.put(np.zeros((2, SINK_WORDS), np.uint64))
    asked = launched(monkeypatch, lambda: launchers.boxes(table.on, table.allowed, program, sinks))
    assert asked == [4 * 132 * min(boxes, MOST_BOXES)]
    assert asked[0] <= 48 << 10


def test_an_embedding_that_is_not_aligned_is_noticed():
    table = Table(300, d=4, D=64, allowed=1.0)
    tiles = np.array(table.on.tiles)
    tiles[:, 5] -= 2
    table.on.tiles[...] = tiles
    vectors = table.device.put(table.signs.mean_), table.device.put(np.ones(64, np.float32))
    sink = table.device.put(np.zeros((1, SINK_WORDS), np.uint64))
    with pytest.raises(SimulationError, match="misaligned"):
        launchers.rescore(table.on, None, None, table.allowed, *vectors, False, 1, sink)
