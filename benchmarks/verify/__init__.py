"""Verification of the gpu backend on a card: `scripts/gpu_verify` runs `steps`, and `record` writes their findings.

Every module here needs only NumPy, CuPy and pytest.
"""
