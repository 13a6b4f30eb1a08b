"""The cpu engine: numba kernels over tiles and zones."""
