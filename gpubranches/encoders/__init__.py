"""Embedders: models that map texts and images to unit vectors of one space."""

from __future__ import annotations

from gpubranches.encoders.protocol import BATCH_SIZE, Embedder, Encoder
from gpubranches.encoders.registry import open_embedder
from gpubranches.encoders.vocabulary import VocabularyEmbedder

__all__ = ["BATCH_SIZE", "Embedder", "Encoder", "VocabularyEmbedder", "open_embedder"]
