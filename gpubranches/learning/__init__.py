"""Models that learn from marks: boxes and trees over codes, and a linear model."""
