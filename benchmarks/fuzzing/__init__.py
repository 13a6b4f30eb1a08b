"""Fuzzing of everything that reads what others wrote: hostile inputs made of sound ones, and a judge.

`world` makes a small catalog with all that is read; `files`, `catalogs` and `asking` hold one `Reader` for each kind of
input; `mutating` makes inputs; `running` tries them within limits. `python -m benchmarks.fuzz` runs it, and
`tests/test_fuzzing.py` a little of it. Inputs that once failed are kept in `tests/corpus`, a folder a reader.
"""
