"""The first page: what a query means, and what is nearest to it."""
