"""Predicted times of the kernels: `sass` reads their machine code; `designs` has three kernels that were not chosen."""
