"""Broad ideas, unions and easy classes: `lab` makes the catalogs and plays the users on them."""
