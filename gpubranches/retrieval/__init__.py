"""From marks to an answer: train, apply to the catalog, rank, cut, estimate what is missing, explain."""
