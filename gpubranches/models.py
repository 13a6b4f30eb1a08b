"""The models of a refine by name, without what computes them, so that a door can list them cheaply."""

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
