"""Verification of the gpu backend on a card: `scripts/gpu_verify` runs `steps` and `record` writes what they find.

Every module here needs NumPy, CuPy and pytest alone.
"""
