"""The benchmark: one synthetic catalog, several engines, the same questions, side by side in one run."""
