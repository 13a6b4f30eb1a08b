"""Heads: embeddings to the d-dim vectors that become codes."""

from gpubranches.head.files import LINEAR, load_head, open_head, require_head
from gpubranches.head.identity import IdentityHead
from gpubranches.head.linear import PCAHead, RCAHead
from gpubranches.head.protocol import Head
from gpubranches.head.settings import HeadSettings
from gpubranches.head.towers import TrainedHead

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
