"""This benchmark measures crash safety; see `python -m benchmarks.crashes --help`."""
