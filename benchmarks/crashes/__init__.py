"""Crash safety, measured; see `python -m benchmarks.crashes --help`."""
