"""What the simulation of CUDA on the processor must notice: accesses out of bounds, missing barriers, races."""

import numpy as np
import pytest
from cudasim import Module, SimulationError, guarded
from test_kernels import SCHEDULES

SIMPLE = """
extern "C" __global__ void __launch_bounds__(64) copy(const unsigned* a, unsigned n, unsigned* b)
{
    __shared__ unsigned s[64];
    s[threadIdx.x] = threadIdx.x < n ? a[threadIdx.x] : 0u;
    __syncthreads();
    b[threadIdx.x] = s[63u - threadIdx.x];
}
"""


def copied(text, n=64, room=64, order=0, threads=64):
    a, b = guarded(n, np.uint32), guarded(room, np.uint32)
    a[:] = np.arange(n)
    Module(text).launch("copy", (1, 1), threads, [a, np.uint32(n), b], order)
    return b


def test_the_simulation_runs_a_block():
    assert all(copied(SIMPLE, order=order).tolist() == list(range(63, -1, -1)) for order in SCHEDULES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("a[threadIdx.x]", "a[threadIdx.x + 64u]"), "illegal memory access.*kernel.cu:5"),
        (("b[threadIdx.x] =", "b[threadIdx.x + 64u] ="), "illegal memory access"),
        (("__syncthreads();", "if (threadIdx.x < 5u) return; __syncthreads();"), "after others have exited"),
        (("__syncthreads();", "if (threadIdx.x < 5u) __syncwarp(); __syncthreads();"), "deadlock"),
        (("s[63u - threadIdx.x]", "((const uint2*)(s + 1))->x"), "misaligned"),
        (("s[63u - threadIdx.x]", "s[64u + threadIdx.x]"), "out of range"),
    ],
)
def test_the_simulation_reports(change, message):
    text = SIMPLE.replace(*change)
    assert text != SIMPLE
    with pytest.raises(SimulationError, match=message):
        copied(text)


def test_the_simulation_shows_a_missing_barrier():
    text = SIMPLE.replace("__syncthreads();", "")
    good = copied(SIMPLE).tolist()
    assert any(copied(text, order=order).tolist() != good for order in SCHEDULES)


def test_the_simulation_wants_the_widths_of_arguments():
    with pytest.raises(TypeError, match="argument 1"):
        Module(SIMPLE).launch("copy", (1, 1), 64, [guarded(64, np.uint32), np.uint64(64), guarded(64, np.uint32)])


DYNAMIC = SIMPLE.replace("__shared__ unsigned s[64];", "extern __shared__ unsigned s[];")


def test_dynamic_shared_memory_is_as_large_as_was_asked():
    a, b = guarded(64, np.uint32), guarded(64, np.uint32)
    a[:] = np.arange(64)
    for races in (False, True):
        Module(DYNAMIC, races=races).launch("copy", (1, 1), 64, [a, np.uint32(64), b], shared_bytes=256)
        assert b.tolist() == list(range(63, -1, -1))
        with pytest.raises(SimulationError, match="illegal memory access"):
            Module(DYNAMIC, races=races).launch("copy", (1, 1), 64, [a, np.uint32(64), b], shared_bytes=240)
    with pytest.raises(SimulationError, match="bytes of shared memory"):
        Module(DYNAMIC).launch("copy", (1, 1), 64, [a, np.uint32(64), b], shared_bytes=49_153)


RACE = """
extern "C" __global__ void __launch_bounds__(64) touch(unsigned* out)
{
    __shared__ unsigned s[64];
    const unsigned i = threadIdx.x, lane = i % 32u;
    (void)lane;
    s[i] = i;
    __syncthreads();
    BETWEEN;
    out[i] = s[i];
}
"""


@pytest.mark.parametrize(
    ("between", "race"),
    [
        ("", False),
        ("s[i ^ 1u] = i;", True),
        ("s[i ^ 1u] = i; __syncwarp();", False),
        ("s[63u - i] = i; __syncwarp();", True),
        ("s[63u - i] = i; __syncthreads();", False),
        ("s[i ^ 1u] = i; (void)__shfl_sync(0xffffffffu, i, 0); (void)__ballot_sync(0xffffffffu, i);", True),
        ("const unsigned x = s[i ^ 1u]; __syncwarp(); s[i] = x;", False),
        ("const unsigned x = s[i ^ 1u]; s[i] = x;", True),
        ("atomicAdd(s, 1u); __syncthreads();", False),
        ("atomicAdd(s + lane, 1u);", True),
        ("if (lane == 3u) atomicOr(s + 4, 1u); else if (lane == 4u) s[4] = 7u; __syncthreads();", True),
        ("if (!i) *(uint4*)s = make_uint4(1, 2, 3, 4);", True),
    ],
)
def test_accesses_that_no_barrier_orders_are_races(between, race):
    """Whatever the schedule: they need not give other results."""
    for order in SCHEDULES:
        out = guarded(64, np.uint32)
        module = Module(RACE.replace("BETWEEN;", between), races=True)
        if not race:
            module.launch("touch", (3, 1), 64, [out], order)
            continue
        with pytest.raises(SimulationError, match="race with thread"):
            module.launch("touch", (3, 1), 64, [out], order)


def test_the_line_of_a_race_is_told():
    with pytest.raises(SimulationError, match=r"race .* at kernel.cu:10"):
        module = Module(RACE.replace("BETWEEN", "if (i == 5u) s[6] = 1u"), races=True)
        module.launch("touch", (1, 1), 64, [guarded(64, np.uint32)])


HALVES = """
extern "C" __global__ void halves(const __half* in, float* out) { out[threadIdx.x] = __half2float(in[threadIdx.x]); }
"""


def test_halves_are_those_of_numpy():
    """All of them, with subnormal float32 flushed: no half is one."""
    every = np.arange(1 << 16, dtype=np.uint16).reshape(64, 1024)
    module = Module('#include "cuda_fp16.h"' + HALVES)
    for own in every:
        given, out = guarded(1024, np.uint16), guarded(1024, np.float32)
        given[:] = own
        module.launch("halves", (1, 1), 1024, [given, out])
        assert np.array_equal(out, own.view(np.float16).astype(np.float32), equal_nan=True)
        assert np.array_equal(np.signbit(out[~np.isnan(out)]), own[~np.isnan(out)] >> 15 == 1)
