"""What learns from marks: boxes and trees over codes, and a linear model."""
