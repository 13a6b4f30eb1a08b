"""The options of a refine: models by name, defaults, ranges; without what computes, so that doors list them cheaply."""

from __future__ import annotations

from typing import Literal, get_args

Model = Literal["ensemble", "branch", "ensemble-classic", "branch-classic", "forest", "tree", "linear"]
MODELS: tuple[Model, ...] = get_args(Model)
"""The first is the default."""
TITLES: dict[Model, str] = {
    "ensemble": "Ensemble of decision branches",
    "branch": "One decision branch",
    "ensemble-classic": "Ensemble of decision branches, the papers' own",
    "branch-classic": "One decision branch, the papers' own",
    "forest": "Random forest",
    "tree": "Decision tree",
    "linear": "Linear, without boxes",
}
RANDOM_NEGATIVES, MOST_RANDOM_NEGATIVES = 1000, 1_000_000
"""Items drawn from the catalog that serve as wrong unchecked, by default and at most."""
NEGATIVE_WEIGHT = 10.0
"""How much an item that a person marked wrong counts against one drawn at random, by default: of those some match."""
LEAST_WEIGHT, MOST_WEIGHT = 0.1, 1000.0
