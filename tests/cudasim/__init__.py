"""CUDA kernels on the processor: their text under g++ (cudasim.h), and a device that runs the gpu backend on it."""

from cudasim.device import SimulatedDevice as SimulatedDevice
from cudasim.module import Module as Module
from cudasim.module import SimulationError as SimulationError
from cudasim.module import guarded as guarded
