"""Compile the text of kernels with g++ and call them on NumPy arrays in guarded memory."""

import ctypes
import hashlib
import mmap
import os
import re
import subprocess
import tempfile
import weakref
from pathlib import Path

import numpy as np

HEADER = Path(__file__).parent / "cudasim.h"
INCLUDE = Path(__file__).parent / "include"
FLAGS = [
    *("-std=gnu++17", "-O1", "-g1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"),
    *("-ffp-contract=off", "-fno-strict-aliasing", "-Wno-unknown-pragmas", "-Wno-unused-function"),
    *("-fsanitize=alignment,bounds,shift,integer-divide-by-zero", "-fno-sanitize-recover=all"),
    "-fsanitize-undefined-trap-on-error",
]

RACES = ["-DCUDASIM_RACES", "-fsanitize=thread", "--param=tsan-distinguish-volatile=0"]
DYNAMIC = re.compile(r"extern\s+__shared__\s+(\w+)\s+(\w+)\[\];")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class SimulationError(RuntimeError):
    """A kernel does not compile, or does what a GPU would not survive or not define."""


class _Guarded:
    """`size` bytes that end, but for rounding to 16, at a page without access; another one lies in front."""

    def __init__(self, size):
        page = mmap.PAGESIZE
        body = -(-max(size, 1) // page) * page
        self.total = body + 2 * page
        self.base = _libc.mmap(None, self.total, mmap.PROT_READ | mmap.PROT_WRITE, 0x22, -1, 0)
        _libc.mprotect(self.base, page, 0)
        _libc.mprotect(self.base + page + body, page, 0)
        self.address = self.base + page + body - -(-max(size, 1) // 16) * 16

    def __del__(self):
        if getattr(self, "base", None):
            _libc.munmap(self.base, self.total)


def guarded(shape, dtype, fill=0xA5, freed=None):
    """Return an array in guarded memory, each byte `fill`: what is not written shows, what is out of bounds faults.

    freed: called when neither the array nor a view of it is left.
    """
    dtype = np.dtype(dtype)
    count = int(np.prod(shape))
    memory = _Guarded(count * dtype.itemsize)
    if freed is not None:
        weakref.finalize(memory, freed).atexit = False
    buffer = (ctypes.c_char * max(count * dtype.itemsize, 1)).from_address(memory.address)
    buffer._memory = memory
    array = np.frombuffer(buffer, dtype=dtype, count=count).reshape(shape)
    array.view(np.uint8).reshape(-1)[:] = fill
    return array


class Module:
    """The kernels of one text, constants and shared declarations included. A name can be called when it is `extern`.

    races: look for races in shared memory, see cudasim.h, at several times the time.
    """

    def __init__(self, source, *, races=False):
        names = re.findall(r"__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(", source)
        self._lib = ctypes.CDLL(str(_compiled(source, names, races)))
        self._lib.cudasim_message.restype = ctypes.c_char_p
        self.names = names

    def launch(self, name, grid, threads, args, order=0, shared_bytes=0):
        """Run a kernel: grid (x, y) blocks of `threads`; args arrays and NumPy scalars, in the kernel's order.

        shared_bytes: dynamic shared memory of a block.
        """
        sizes = (ctypes.c_int * 64)()
        count = getattr(self._lib, f"cudasim_sizes_{name}")(sizes)
        if len(args) != count:
            raise TypeError(f"{name} takes {count} arguments, got {len(args)}")
        kept = [_argument(name, i, value, size) for i, (value, size) in enumerate(zip(args, sizes, strict=False))]
        pointers = (ctypes.c_void_p * count)(*[ctypes.addressof(value) for value in kept])
        blocks = (ctypes.c_uint * 2)(*grid)
        run = getattr(self._lib, f"cudasim_run_{name}")
        if run(pointers, blocks, ctypes.c_uint(threads), ctypes.c_uint(order), ctypes.c_uint(shared_bytes)):
            message = self._lib.cudasim_message().decode()
            raise SimulationError(f"{name}: {message}{self._line(message)}")

    def _line(self, message):
        """Return the kernel's line of the faulting instruction, as g++'s debug information has it."""
        counter = re.search(r"pc (0x[0-9a-f]+)", message)
        own = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(self._lib._name)]
        if not counter or not own:
            return ""
        offset = int(counter[1], 16) - int(own[0].split("-")[0], 16)
        command = ["addr2line", "-i", "-e", self._lib._name, hex(offset)]
        lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split("\n")
        return " at " + " < ".join(Path(line).name for line in lines if "kernel.cu" in line)


def _argument(name, i, value, size):
    if size < 0:
        if not isinstance(value, np.ndarray):
            raise TypeError(f"{name} argument {i}: expected an array, got {type(value).__name__}")
        return ctypes.c_void_p(value.ctypes.data)
    if not isinstance(value, np.generic) or value.nbytes != size:
        raise TypeError(f"{name} argument {i}: expected a NumPy scalar of {size} bytes, got {value!r}")
    return (ctypes.c_char * size).from_buffer_copy(value.tobytes())


def _compiled(source, names, races):
    """Return the path of the shared library of a text, from the cache or newly compiled."""
    exported = 'extern "C" __attribute__((visibility("default"))) '
    tail = [f"{exported}const char* cudasim_message() {{ return cudasim::message; }}"]
    for name in names:
        tail.append(
            f"{exported}int cudasim_run_{name}(void** a, const unsigned* g, unsigned t, unsigned o, unsigned s)"
            f" {{ return cudasim::Kernel<::{name}>::run(a, g, t, o, s); }}"
            f"{exported}int cudasim_sizes_{name}(int* o) {{ return cudasim::Kernel<::{name}>::sizes(o); }}"
        )
    source = DYNAMIC.sub(r"\1* const \2 = (\1*)cudasim::dynamic_shared;", source)
    text = '#line 1 "kernel.cu"\n' + source + "\n" + "\n".join(tail) + "\n"
    flags = [*FLAGS, *RACES] if races else FLAGS
    headers = "".join(path.read_text() for path in [HEADER, *sorted(INCLUDE.iterdir())])
    key = hashlib.sha256((text + headers + " ".join(flags)).encode()).hexdigest()[:20]
    cache = Path(os.environ.get("CUDASIM_CACHE", Path(tempfile.gettempdir()) / "gpubranches-cudasim"))
    cache.mkdir(parents=True, exist_ok=True)
    library = cache / f"{key}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            cpp, made, linked = (Path(folder) / f"kernel.{ending}" for ending in ("cpp", "o", "so"))
            cpp.write_text(text)
            # In two steps: to link with the flags of the compiler would bring g++'s own thread sanitizer.
            _run(["g++", *flags, "-I", str(INCLUDE), "-include", str(HEADER), "-c", str(cpp), "-o", str(made)])
            _run(["g++", "-shared", str(made), "-o", str(linked)])
            linked.replace(library)
    return library


def _run(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SimulationError(done.stderr)
