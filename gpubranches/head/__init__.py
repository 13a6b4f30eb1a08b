"""Heads: embeddings to the d-dim vectors that become codes."""

from gpubranches.head.files import load_head, open_head, require_head
from gpubranches.head.identity import IdentityHead
from gpubranches.head.pca import PCAHead
from gpubranches.head.protocol import Head
from gpubranches.head.settings import HeadSettings
from gpubranches.head.towers import TrainedHead

__all__ = ["Head", "HeadSettings", "IdentityHead", "PCAHead", "TrainedHead", "load_head", "open_head", "require_head"]
