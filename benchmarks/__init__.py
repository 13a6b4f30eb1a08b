"""Scripts that measure the project; run each with python -m benchmarks.NAME."""
