"""The models that can be compared, by their short names: baselines and the product's own."""

from __future__ import annotations

from gpubranches.errors import UsageError
from gpubranches.research.quality import baselines_on_codes as on_codes
from gpubranches.research.quality import baselines_on_embeddings as on_embeddings
from gpubranches.research.quality import product_models as product
from gpubranches.research.quality.answers import Model

MODELS: dict[str, Model] = {
    "text": Model("the first query alone, first 100", product.text_query),
    "query-oracle": Model("the first query alone, by the best cut, an oracle's", product.text_query_oracle),
    "rocchio": Model("Rocchio on embeddings", on_embeddings.rocchio),
    "qdrant-average": Model("Qdrant's recommend, average_vector, first 100", on_embeddings.qdrant_average_vector),
    "qdrant-best": Model("Qdrant's recommend, best_score, first 100", on_embeddings.qdrant_best_score),
    "centroid": Model("nearest centroid on embeddings", on_embeddings.centroid, cut=0),
    "logistic-codes": Model("logistic regression on codes", on_codes.logistic, cut=0),
    "svm-codes": Model("linear support vector machine on codes", on_codes.linear_support_vectors, cut=0),
    "rbf-codes": Model("RBF support vector machine on codes", on_codes.radial_support_vectors, cut=0),
    "tree": Model("decision tree on codes", product.tree),
    "forest": Model("random forest of 25 on codes", product.forest),
    "branch": Model("decision branches by votes", product.branch),
    "ensemble": Model("branch ensemble by votes", product.ensemble),
    "branch-classic": Model("the papers' own decision branches by votes", product.branch_classic),
    "ensemble-classic": Model("the papers' own ensemble by votes", product.ensemble_classic),
    "forest-embeddings-10": Model(
        "random forest of 100 on embeddings, 10 random negatives",
        on_embeddings.forest_of_few,
        on_embeddings.EVEN,
    ),
    "forest-embeddings": Model(
        "random forest of 100 on embeddings, all random negatives",
        on_embeddings.forest,
        on_embeddings.EVEN,
    ),
    "logistic-embeddings": Model("logistic regression on embeddings, cut at 0", on_embeddings.logistic, cut=0),
    "logistic-light": Model(
        "logistic regression on embeddings, random negatives of weight .01, cut at 0",
        on_embeddings.logistic_light,
        cut=0,
    ),
    "svm-embeddings": Model(
        "linear support vector machine on embeddings, cut at 0", on_embeddings.linear_support_vectors, cut=0
    ),
    "prototype": Model("logistic regression on embeddings, cut by held-out scores", on_embeddings.two_stage_prototype),
    "linear": Model("second stage of refine over the whole catalog", product.linear),
    "refine-unasked": Model("refine by the marks alone, not told the query", product.refine_unasked),
    "refine": Model("refine as it is by default", product.refine),
}
"""Models by the name that the command line and the JSON know them by, weakest information first."""

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
