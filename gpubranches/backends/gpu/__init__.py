"""The gpu backend."""

from gpubranches.backends.gpu.backend import GpuBackend as GpuBackend
