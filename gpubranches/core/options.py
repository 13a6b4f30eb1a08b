"""The options of a find all: models by name, defaults and ranges. It imports nothing that computes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Literal, Self, get_args

from gpubranches.errors import UsageError

Model = Literal["ensemble", "branch", "ensemble-classic", "branch-classic", "forest", "tree", "linear"]
MODELS: tuple[Model, ...] = get_args(Model)
"""The first is the default."""
RANDOM_NEGATIVES, MOST_RANDOM_NEGATIVES = 1000, 1_000_000
"""Random items that a model takes as wrong without a check: the default number, and the largest."""
NEGATIVE_WEIGHT = 10.0
"""The default weight of a marked wrong item against a random one, which may be a right item."""
LEAST_WEIGHT, MOST_WEIGHT = 0.1, 1000.0


@dataclass(frozen=True)
class RefineOptions:
    """The options of a find all, besides the marks.

    model: the kind of model, see docs/models.md; with "linear" the second stage ranks the whole catalog. second_stage:
    True ranks by a linear model on the embeddings; False ranks by votes, and an item matches with more than half of
    them; None means True if the catalog has embeddings. random_negatives: how many random items are used as wrong items
    although nobody checked them, at most a tenth of the catalog. negative_weight: weight of an item marked wrong
    relative to one of these, .1 to 1,000, in the second stage and for the pseudo-labels of a narrow idea. where: a
    condition that every item of the answer meets, marked ones too; the model learns from all marks. lean: where the
    list is cut, from -1 for precision to 1 for recall, see `Session.recut`. query: the query of the session; the models
    use its words if the marks agree with them.
    """

    model: Model = MODELS[0]
    second_stage: bool | None = None
    random_negatives: int = RANDOM_NEGATIVES
    negative_weight: float = NEGATIVE_WEIGHT
    where: str | None = None
    lean: float = 0.0
    query: str | None = None

    def validate(self) -> Self:
        """Return the options with `lean` rounded to hundredths. Raises UsageError for a value out of its range."""
        if self.model not in MODELS:
            raise UsageError(f"model: expected one of {', '.join(MODELS)}, got {self.model!r}")
        count, weight = self.random_negatives, self.negative_weight
        if not isinstance(count, Integral) or not 0 <= count <= MOST_RANDOM_NEGATIVES:
            raise UsageError(f"random_negatives: expected 0 to {MOST_RANDOM_NEGATIVES:,}, got {count!r:.40}")
        if not isinstance(weight, Real) or not LEAST_WEIGHT <= weight <= MOST_WEIGHT:
            raise UsageError(
                f"negative_weight: expected {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}, got {weight!r:.40}; "
                f"{NEGATIVE_WEIGHT:g} is the default"
            )
        if self.second_stage not in (None, True, False):
            raise UsageError(f"second_stage: expected True, False or None, got {self.second_stage!r:.40}")
        for name, text in (("where", self.where), ("query", self.query)):
            if text is not None and not isinstance(text, str):
                raise UsageError(f"{name}: expected a text or None, got {type(text).__name__}")
        return replace(self, lean=check_lean(self.lean))


def check_lean(lean: float) -> float:
    """Return the lean of a cut, rounded to hundredths. Raises UsageError unless it is from -1 to 1."""
    if not isinstance(lean, Real) or not -1 <= lean <= 1:
        raise UsageError(f"lean: expected -1 (precision) to 1 (recall), got {lean!r:.40}")
    return round(float(lean), 2)
