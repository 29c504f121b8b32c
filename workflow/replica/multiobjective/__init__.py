"""Learning with several objectives: hypotheses with exact risks, and trade-offs of networks."""
