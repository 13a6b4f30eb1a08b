"""Parts that several benchmarks share: options, catalogs, real data, tables, and facts of the machine."""
