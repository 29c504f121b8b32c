"""Training: stacked ensembles of small models, a plain supervised loop, checkpoints."""
