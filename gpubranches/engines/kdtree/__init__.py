"""The kdtree engine: the cpu engine with an index of k-d trees."""
