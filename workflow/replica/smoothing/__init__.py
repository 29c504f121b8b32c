"""Randomized smoothing: sigma(x), Monte-Carlo counts, certificates."""
