"""Predicted times of the kernels: `sass` compiles them and reads their machine code, `designs` has three that lost."""
