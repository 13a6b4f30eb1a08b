"""The gpu backend."""

from gpubranches.engines.gpu.backend import GpuBackend as GpuBackend
