"""The benchmark of engines: one synthetic catalog, several engines, the same questions, in one run."""
