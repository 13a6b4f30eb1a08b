"""The columns beside the embeddings: their types, what they hold, and conditions on them."""
