"""A stand-in for CuPy whose kernels run on the processor and whose expressions are NumPy's: to rehearse a verification.

To be put on the path in front of everything; what CupyDevice uses of CuPy is that of fake_cupy, but for the kernels.
"""

import types

import fake_cupy
import numpy as np
from cudasim import Module, SimulationError

_made = fake_cupy.make(4 << 30)
__version__ = "simulated"
cuda = _made.cuda


class _Function:
    num_regs = local_size_bytes = 0

    def __init__(self, module, entry):
        self.module, self.entry = module, entry

    def __call__(self, grid, block, args, *, shared_mem=0):
        args = [arg.view(np.ndarray) if isinstance(arg, np.ndarray) else arg for arg in args]
        self.module.launch(self.entry, grid, block[0], args, 0, shared_mem)


class RawModule:
    def __init__(self, code, options):
        assert options == ("--std=c++17",)
        self.code = code

    def get_function(self, entry):
        try:
            return _Function(_module(self.code), entry)
        except SimulationError as error:
            raise cuda.compiler.CompileException(str(error)) from error


_modules = {}


def _module(code):
    if code not in _modules:
        _modules[code] = Module(code)
    return _modules[code]


class _Event:
    def __init__(self, disable_timing=False):
        pass

    def record(self, stream=None):
        pass

    def synchronize(self):
        pass


class _Device(cuda.Device):
    compute_capability = "00"

    def synchronize(self):
        pass


def _copied(self, source, size, stream=None):
    self.memory[:size] = 0


fake_cupy.Pointer.copy_from_device_async = fake_cupy.Pointer.copy_from_host = _copied
cuda.Event, cuda.Device = _Event, _Device
cuda.get_elapsed_time = lambda start, stop: 1.0
cuda.get_current_stream = lambda: None
cuda.is_available = lambda: True
cuda.runtime.runtimeGetVersion = cuda.runtime.driverGetVersion = lambda: 0
cuda.runtime.getDeviceProperties = lambda index: {"name": b"A simulated card", "multiProcessorCount": 1}
ndarray = _made.ndarray


def _as_array(found):
    return found.view(fake_cupy.Array) if isinstance(found, np.ndarray) else found


def asarray(array, dtype=None):
    return _as_array(np.array(array, dtype))


def asnumpy(array, stream=None):
    return np.array(array)


def argsort(array):
    return _as_array(np.argsort(array, kind="stable"))


def __getattr__(name):
    found = getattr(np, name)
    if isinstance(found, type) or not callable(found) or isinstance(found, types.ModuleType):
        return found
    return lambda *args, **kwargs: _as_array(found(*args, **kwargs))
