"""Heads: embeddings to the d-dim vectors that become codes."""

from gpubranches.head.files import load_head, open_head, require_head
from gpubranches.head.identity import IdentityHead
from gpubranches.head.pca import PCAHead
from gpubranches.head.protocol import Head

__all__ = ["Head", "IdentityHead", "PCAHead", "load_head", "open_head", "require_head"]
