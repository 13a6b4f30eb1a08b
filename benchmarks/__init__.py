"""Programs that measure the project, `python -m benchmarks.NAME`; README.md lists them by the question they answer."""
