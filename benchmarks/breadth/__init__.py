"""Broad ideas, unions and easy classes: `plays` makes the catalogs and plays the users on them."""
