"""Networks of residual blocks with LayerNorm: how collapse grows with depth (study `depth`)."""
