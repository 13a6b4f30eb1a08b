"""Broad ideas, unions and easy classes: `plays` plays users, `parts` makes tables and goals."""
