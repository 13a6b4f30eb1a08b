"""Crash safety by number: see `python -m benchmarks.crashes --help`."""
