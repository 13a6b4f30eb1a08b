"""The losses of the training of a head, in torch; each is tested against NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_LEAST = 1e-8


def contrastive(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """Return the symmetric contrastive loss of pairs of images and texts.

    images, texts: (m, d) unit vectors, whose rows correspond; scale: inverse temperature. Source: Radford et al. 2021
    (CLIP), figure 3.
    """
    import torch
    from torch.nn.functional import cross_entropy

    logits = scale * images @ texts.T
    own = torch.arange(len(logits), device=logits.device)
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2


def koleo(vectors: Tensor) -> Tensor:
    """Return minus the mean log distance to the nearest other vector: small if vectors are spread evenly.

    vectors: (m, d) unit vectors, m >= 2. This is the estimator of differential entropy by Kozachenko and Leonenko;
    Sablayrolles et al. 2019 (Spreading vectors for similarity search, ICLR), equation 2.
    """
    import torch

    with torch.no_grad():
        near = vectors @ vectors.T
        near.fill_diagonal_(-2.0)
        nearest = near.argmax(dim=1)
    distances = (vectors - vectors[nearest]).norm(dim=1)
    return -torch.log(distances + _LEAST).mean()


def distillation(
    queries: Tensor,
    items: Tensor,
    similarities: Tensor,
    *,
    scale: Tensor | float,
    temperature: float,
    own: bool = False,
) -> Tensor:
    """Return how much the ranking of a batch by vectors differs from that by embeddings.

    queries: (q, d) and items: (m, d) unit vectors; similarities: (q, m), the cosines of their embeddings;
    scale: inverse temperature of the vectors' cosines; temperature: of the embeddings'. own: True if the queries are
    the first q items; each query then leaves itself out. The Kullback-Leibler divergence of the softmax of the vectors
    from that of the embeddings, mean over the queries: Hinton et al. 2015, over neighbours in place of classes, as in
    stochastic neighbour embedding (Hinton and Roweis 2002).
    """
    import torch
    from torch.nn.functional import kl_div, log_softmax

    logits = scale * queries @ items.T
    targets = similarities / temperature
    if own:
        itself = torch.zeros_like(targets, dtype=torch.bool)
        itself.fill_diagonal_(True)
        logits, targets = logits.masked_fill(itself, -1e4), targets.masked_fill(itself, -1e4)
    return kl_div(log_softmax(logits, 1), log_softmax(targets, 1), reduction="batchmean", log_target=True)
