"""The models that can be compared, by their short names: baselines and the product's own."""

from __future__ import annotations

from gpubranches.errors import UsageError
from gpubranches.research.quality import baselines, product_models
from gpubranches.research.quality.answers import Model

MODELS: dict[str, Model] = {
    "text": Model("the first query alone, first 100", product_models.text_query),
    "query-oracle": Model("the first query alone, by the best cut, an oracle's", product_models.text_query_oracle),
    "rocchio": Model("Rocchio on embeddings", baselines.rocchio),
    "qdrant-average": Model("Qdrant's recommend, average_vector, first 100", baselines.qdrant_average_vector),
    "qdrant-best": Model("Qdrant's recommend, best_score, first 100", baselines.qdrant_best_score),
    "centroid": Model("nearest centroid on embeddings", baselines.centroid, cut=0),
    "logistic-codes": Model("logistic regression on codes", baselines.logistic_on_codes, cut=0),
    "svm-codes": Model("linear support vector machine on codes", baselines.linear_support_vectors_on_codes, cut=0),
    "rbf-codes": Model("RBF support vector machine on codes", baselines.radial_support_vectors_on_codes, cut=0),
    "tree": Model("decision tree on codes", product_models.by_votes("tree", ranked=False)),
    "forest": Model("random forest of 25 on codes", product_models.by_votes("forest")),
    "branch": Model("decision branches by votes", product_models.by_votes("branch", ranked=False)),
    "ensemble": Model("branch ensemble by votes", product_models.by_votes("ensemble")),
    "branch-classic": Model(
        "the papers' own decision branches by votes", product_models.by_votes("branch-classic", ranked=False)
    ),
    "ensemble-classic": Model("the papers' own ensemble by votes", product_models.by_votes("ensemble-classic")),
    "forest-embeddings-10": Model(
        "random forest of 100 on embeddings, 10 random negatives",
        baselines.forest_of_few,
        baselines.EVEN,
    ),
    "forest-embeddings": Model(
        "random forest of 100 on embeddings, all random negatives",
        baselines.forest,
        baselines.EVEN,
    ),
    "logistic-embeddings": Model("logistic regression on embeddings, cut at 0", baselines.logistic, cut=0),
    "logistic-light": Model(
        "logistic regression on embeddings, random negatives of weight .01, cut at 0",
        baselines.logistic_light,
        cut=0,
    ),
    "svm-embeddings": Model(
        "linear support vector machine on embeddings, cut at 0", baselines.linear_support_vectors, cut=0
    ),
    "prototype": Model("logistic regression on embeddings, cut by held-out scores", baselines.two_stage_prototype),
    "linear": Model("second stage of refine over the whole catalog", product_models.refined(model="linear")),
    "refine-unasked": Model("refine by the marks alone, not told the query", product_models.refined(told=False)),
    "refine": Model("refine as it is by default", product_models.refined()),
}
"""Models by their name on the command line and in the JSON; those with the least information come first."""

USUAL = ("text", "rocchio", "logistic-embeddings", "ensemble", "refine")
"""The models compared unless others are named."""
BROAD = ("query-oracle", "forest-embeddings-10", "logistic-embeddings", "logistic-light", "refine")
"""The models compared on groups of classes unless others are named."""


def choose_models(names: str) -> dict[str, Model]:
    """Return the models named in a comma list, in its order; "all" names every one.

    Raises UsageError, listing what is known, for an unknown name or an empty list.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if wanted == ["all"]:
        return dict(MODELS)
    unknown = [name for name in wanted if name not in MODELS]
    if unknown or not wanted:
        raise UsageError(f"models: expected all, or some of {', '.join(MODELS)}; got {', '.join(unknown) or names!r}")
    return {name: MODELS[name] for name in wanted}
