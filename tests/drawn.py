"""How many of very many cases the suite tries: some, evenly spaced, or all with GPUBRANCHES_EVERY_CASE set."""

import os

EVERY = bool(os.environ.get("GPUBRANCHES_EVERY_CASE"))


def some(cases, most):
    """Return all cases, or at most so many, evenly spaced, the first and the last among them."""
    cases = list(cases)
    if EVERY or len(cases) <= most:
        return cases
    return [cases[round(i * (len(cases) - 1) / (most - 1))] for i in range(most)]
