"""Training of the decoder of a head: from codes back to embeddings, after the image tower."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.encoders.heads.network import build_tower, forward, learning_rate_factor, to_numpy
from gpubranches.encoders.heads.settings import HeadSettings
from gpubranches.encoders.heads.text_memory import regression
from gpubranches.encoders.heads.towers import Tower
from gpubranches.encoders.heads.training_data import TrainingData
from gpubranches.encoders.quantizers import ScalarQuantizer
from gpubranches.errors import DataError

Progress = Callable[[str, int, int], None]

BATCH = 512
"""The largest number of rows per step."""
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 1e-2
_DRAWN = 4


def fit_decoder(
    examples: TrainingData,
    images: Tower,
    settings: HeadSettings,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> tuple[Tower, float]:
    """Return a tower from vectors, (n, d), to centred unit embeddings, (n, D), and its mean cosine on held-out rows.

    Its inputs are the vectors of `images` after quantization to uint8 codes; the loss is one minus the mean cosine with
    the embeddings that `images` was trained on. Hidden layers and epochs are those of `settings`. The skip connection
    starts as the least squares solution, and is returned alone if it is better on the held-out rows, as with few
    training rows. A neural decoder of codes, as in Huijben et al. (Residual quantization with implicit neural
    codebooks, ICML 2024), here of scalar codes and in one step. The result is determined by the seed on one machine.
    """
    import torch

    scalar = ScalarQuantizer(low=-1.0, high=1.0).fit(np.zeros((1, images.d), np.float32))

    def coded(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        vectors = np.empty((len(rows), images.d), np.float32)
        for start in range(0, len(rows), BATCH):
            own = rows[start : start + BATCH]
            vectors[start : start + BATCH] = scalar.decode(scalar.encode(images(examples.centred(own))))
        return vectors

    codes, unseen = coded(examples.fit), coded(examples.validation)
    some = np.unique(np.linspace(0, len(codes) - 1, min(len(codes), 100_000)).astype(np.int64))
    plane = np.ascontiguousarray(regression(codes[some], examples.centred(examples.fit[some])).T)
    own = replace(settings, variant="residual", hidden=settings.hidden or HeadSettings().hidden)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        tower = build_tower(own, plane).to(device)
    _train(tower, codes, examples, settings, device, progress)

    def cosine(fitted: Tower) -> float:
        return float(np.einsum("ij,ij->i", fitted(unseen), examples.centred(examples.validation)).mean())

    return max(((fitted, cosine(fitted)) for fitted in (to_numpy(tower), Tower(plane, ()))), key=itemgetter(1))


def _train(
    tower: Any,
    codes: NDArray[np.float32],
    examples: TrainingData,
    settings: HeadSettings,
    device: str,
    progress: Progress | None,
) -> None:
    """Train a tower to map the vectors of codes, (n, d) float32, to the embeddings of `examples.fit`."""
    import torch

    batch = min(BATCH, len(codes))
    steps_an_epoch = max(1, len(codes) // batch)
    optimiser = torch.optim.AdamW(tower.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    tower.train()
    for epoch in range(settings.epochs):
        order = np.random.default_rng([settings.seed, _DRAWN, epoch]).permutation(len(codes))
        for number in range(steps_an_epoch):
            share = learning_rate_factor(epoch * steps_an_epoch + number, settings.epochs * steps_an_epoch)
            for group in optimiser.param_groups:
                group["lr"] = LEARNING_RATE * share
            rows = order[number * batch : (number + 1) * batch]
            targets = torch.from_numpy(examples.centred(examples.fit[rows])).to(device)
            with torch.autocast("cuda", dtype=torch.bfloat16, enabled=device != "cpu"):
                decoded = forward(tower, torch.from_numpy(codes[rows]).to(device))
            loss = 1 - (decoded * targets).sum(dim=1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        if not math.isfinite(float(loss.detach())):
            raise DataError("decoder: the loss became NaN or infinite; the embeddings contain too large numbers")
        if progress is not None:
            progress("decoder", epoch + 1, settings.epochs)
