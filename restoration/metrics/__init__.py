"""Metrics of restored images: per image, baselines, distances between sets, and the evaluation of a restorer."""
