"""Fitting of the text tower of a head that was trained on images: a memory of these images."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from gpubranches.encoders.heads.towers import TextMemory, Tower
from gpubranches.encoders.heads.training_data import TrainingData

MEMORY_ROWS = 16_384
"""The largest number of images in the memory."""
TEMPERATURE, SHARE = 0.02, 0.2
"""Values for a memory that is fitted without texts."""
_TEMPERATURES, _SHARES = (0.01, 0.015, 0.02, 0.03), (0.0, 0.1, 0.2, 0.3, 0.4)
_TEXTS = 500
_RIDGE = 1e-6


def fit_text_memory(examples: TrainingData, images: Tower) -> TextMemory:
    """Return a memory of the rows that `images` was trained on.

    Temperature and share are those of a grid with the best recall of the nearest rows of the training texts; without
    texts they are `TEMPERATURE` and `SHARE`.
    """
    count = min(len(examples.fit), MEMORY_ROWS)
    kept = np.unique(np.linspace(0, len(examples.fit) - 1, count).astype(np.int64))
    keys = examples.centred(examples.fit[kept])
    values = images(keys)
    linear = regression(values, keys)
    if examples.texts is None:
        return TextMemory(keys.astype(np.float16), values, linear, TEMPERATURE, SHARE)
    texts = examples.texts[np.linspace(0, len(examples.texts) - 1, min(len(examples.texts), _TEXTS)).astype(np.int64)]
    base = images(examples.centred(examples.base))
    best, chosen = -1.0, TextMemory(keys.astype(np.float16), values, linear, TEMPERATURE, SHARE)
    for temperature, share in itertools.product(_TEMPERATURES, _SHARES):
        memory = TextMemory(chosen.keys, values, linear, temperature, share)
        recall = examples.text_recall(texts, memory(texts), base)
        if recall > best:
            best, chosen = recall, memory
    return chosen


def regression(vectors: NDArray[np.float32], embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return A, (d, D), by least squares, such that vectors @ (A t) approximates embeddings @ t for every t."""
    wide = vectors.astype(np.float64)
    gram = wide.T @ wide
    gram += _RIDGE * np.trace(gram) * np.eye(len(gram))
    solution: NDArray[np.float32] = np.linalg.solve(gram, wide.T @ embeddings).astype(np.float32)
    return solution
