"""Attention patterns of decoder-only transformers (study `sinks`)."""
