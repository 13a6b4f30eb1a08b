"""The golden check: whether the program still gives the answers that it gave before a change that must not change any.

    python -m benchmarks.golden [--data FOLDER] [--parts NAMES] [--write] [--dump FOLDER]

It runs many queries on small synthetic catalogs and on the catalog in `tests/golden`, on every backend of the
processor, and compares the SHA-256 of each answer with `benchmarks/results/golden.json`. It prints the name of each
answer that differs and then exits with 1. With the evaluation's data, by --data or GPUBRANCHES_EVAL_DATA, it also plays
simulated users on these. `--write` replaces the answers in the file. `--dump` writes each answer as a text file: to see
what differs, dump before and after the change, and run `diff -r`.

Other processors and other versions of the libraries round sums of floats differently. So all bytes are compared where
the environment is that of the file: it names the processor, what NumPy and BLAS use of it, and the versions. On other
machines, answers that consist of integers are still compared exactly; of the others the counts and the first ids are
compared, with the tolerance that the file states. BLAS and torch run in one thread, so that the number of cores makes
no difference.

The check uses the public face of the program. The few names it imports from inside the package are all in `face`.
"""
