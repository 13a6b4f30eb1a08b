"""Fuzzing of every reader of untrusted data: valid inputs are changed, and each result is checked.

`world` makes a small catalog with everything that is read; `files`, `catalogs` and `requests` hold one `Reader` per
kind of input; `mutations` changes inputs; `runner` tries them within limits. `python -m benchmarks.fuzz` runs it, and
`tests/test_fuzzing.py` a small part. Inputs that once failed are kept in `tests/corpus`, one folder per reader.
"""
