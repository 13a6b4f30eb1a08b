"""Heads: they map embeddings to the vectors that are quantized to codes."""

from gpubranches.encoders.heads.files import LINEAR, load_head, open_head, require_head
from gpubranches.encoders.heads.identity import IdentityHead
from gpubranches.encoders.heads.linear import PCAHead, RCAHead
from gpubranches.encoders.heads.protocol import Head
from gpubranches.encoders.heads.settings import HeadSettings
from gpubranches.encoders.heads.towers import TrainedHead

__all__ = [
    "LINEAR",
    "Head",
    "HeadSettings",
    "IdentityHead",
    "PCAHead",
    "RCAHead",
    "TrainedHead",
    "load_head",
    "open_head",
    "require_head",
]
