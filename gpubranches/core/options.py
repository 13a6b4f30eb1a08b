"""The options of a refine: models by name, defaults, ranges; without what computes, so that doors list them cheaply."""

from __future__ import annotations

from typing import Literal, get_args

from gpubranches.errors import UsageError

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


def check_options(model: Model, random_negatives: int, negative_weight: float) -> None:
    """Raise UsageError for a model that is not in `MODELS`, and for a number out of its range."""
    if model not in MODELS:
        raise UsageError(f"model: expected one of {', '.join(MODELS)}, got {model!r}")
    if not 0 <= random_negatives <= MOST_RANDOM_NEGATIVES:
        raise UsageError(f"random_negatives: expected 0 to {MOST_RANDOM_NEGATIVES:,}, got {random_negatives}")
    if not LEAST_WEIGHT <= negative_weight <= MOST_WEIGHT:
        raise UsageError(
            f"negative_weight: expected {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}, got {negative_weight}; "
            f"{NEGATIVE_WEIGHT:g} is the default"
        )


def check_lean(lean: float) -> float:
    """Return the lean of a cut, rounded to hundredths. Raises UsageError unless it is from -1 to 1."""
    if not -1 <= lean <= 1:
        raise UsageError(f"lean: expected -1 (precision) to 1 (recall), got {lean}")
    return round(float(lean), 2)
