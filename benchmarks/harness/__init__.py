"""Parts that several benchmarks share: options, synthetic catalogs, real data, tables, and the facts of the machine."""
